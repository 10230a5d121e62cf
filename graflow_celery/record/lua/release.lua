-- Release members that were claimed and not started: they go back unrun. Touches: header claims due blocked open.
-- ARGV: owner, indices.
local owner = ARGV[1]
local header = load()
if not header then return {{}, {}} end
local indices = {}
for i = 2, #ARGV do indices[#indices + 1] = ARGV[i] end
local claims = fetch('HMGET', CLAIMS, indices)
local due = now() + header.queue_wait
local released, written, scores = {}, {}, {}
for i, index in ipairs(indices) do
  local claim = parse_claim(claims[i])
  if claim.owner == '-' .. owner then
    released[#released + 1] = index
  elseif claim.owner == owner then
    claim.owner, claim.attempt, claim.waits = '-' .. owner, claim.attempt - 1, 0
    written[#written + 1] = index
    written[#written + 1] = claim_text(claim)
    scores[#scores + 1] = due
    scores[#scores + 1] = index
    released[#released + 1] = index
    header.executions = header.executions - 1
    if tonumber(index) < header.n then header.running = header.running - 1 end
  end
end
each('HSET', CLAIMS, written)
each('ZADD', DUE, scores)
if #scores > 0 then look_by(header, due) end
save(header)
return {released, ready(header)}
