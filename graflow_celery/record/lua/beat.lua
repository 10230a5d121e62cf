-- Extend leases. Touches: due; reads header claims.
-- ARGV: index, attempt, owner of each lease. Answers the state, 1 when the run has ended for this process, and the
-- positions (from 0) of the leases that are lost.
local header = load('lease')
if not header then return {false} end
local due = now() + header.lease
local indices, lost, kept = {}, {}, {}
for i = 1, #ARGV, 3 do indices[#indices + 1] = ARGV[i] end
local claims = fetch('HMGET', CLAIMS, indices)
for i, index in ipairs(indices) do
  local claim = parse_claim(claims[i])
  if claim.attempt == tonumber(ARGV[3 * i - 1]) and claim.owner == ARGV[3 * i] then
    kept[#kept + 1] = due
    kept[#kept + 1] = index
  else
    lost[#lost + 1] = i - 1
  end
end
each('ZADD', DUE, kept)
local has_ended = header.state ~= 'RUNNING' and #kept == 0
return {header.state, has_ended and 1 or 0, lost}
