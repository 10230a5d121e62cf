-- Extend what an owner holds of these members, for a process that may be unable to. Touches: due; reads header claims.
-- ARGV: owner, indices. Answers the lease, false when the run is gone. What was abandoned (waits 1) stays so.
local owner = ARGV[1]
local header = load('lease')
if not header then return false end
local due = now() + header.lease
local indices, kept = {}, {}
for i = 2, #ARGV do indices[#indices + 1] = ARGV[i] end
local claims = fetch('HMGET', CLAIMS, indices)
for i, index in ipairs(indices) do
  local claim = parse_claim(claims[i])
  if claim.owner == owner and claim.waits == 0 then
    kept[#kept + 1] = due
    kept[#kept + 1] = index
  end
end
each('ZADD', DUE, kept)
return header.lease
