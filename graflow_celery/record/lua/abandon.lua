-- Give up the leases of a process that is known to be dead: they end now. Touches: header claims deadlines blocks open.
-- ARGV: owner, how it died, indices. An owned claim with waits 1 lives on for no half lease when the server stood still.
local owner, how = ARGV[1], ARGV[2]
local header = load()
if not header then return {} end
local time = now()
local indices = {}
for i = 3, #ARGV do indices[#indices + 1] = ARGV[i] end
thaw_for(header, indices)
local claims = fetch('HMGET', CLAIMS, indices)
local abandoned, written, scores, deaths = {}, {}, {}, {}
for i, index in ipairs(indices) do
  local claim = parse_claim(claims[i])
  if claim.owner == owner then
    claim.waits = 1
    written[#written + 1] = index
    written[#written + 1] = claim_text(claim)
    scores[#scores + 1] = time
    scores[#scores + 1] = index
    abandoned[#abandoned + 1] = index
    deaths[#deaths + 1] = 'death:' .. index
    deaths[#deaths + 1] = how
  end
end
each('HSET', CLAIMS, written)
each('HSET', HEADER, deaths)
each('ZADD', DUE, scores)
if #scores > 0 then look_by(header, time) end
save(header)
return abandoned
