-- Release members that were claimed and not started: they go back unrun.
-- Touches: header outcomes order claims due blocked events open; manifest shared children expire at the end.
-- ARGV: owner, indices.
local owner = ARGV[1]
local header = load()
if not header then return {{}, {}} end
local indices = {}
for i = 2, #ARGV do indices[#indices + 1] = ARGV[i] end
local claims = fetch('HMGET', CLAIMS, indices)
local time = now()
local due = time + header.queue_wait
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
released = without(leave_out(header, time), released)
if settle(header, time) and header.closed == 0 then -- the sweeper publishes the continuation at its next look
  redis.call('ZADD', DUE, time, header.n)
  look_by(header, time)
end
save(header)
return {released, ready(header)}
