-- End the leases of an owner whose process is gone, so that the next sweep finds them lost. Touches: due open; reads
-- header claims.
-- ARGV: owner, indices. Answers how many leases ended.
local header = load()
if not header or header.closed == 1 then return 0 end
local time = now()
local indices, scores = {}, {}
for i = 2, #ARGV do indices[#indices + 1] = ARGV[i] end
for i, text in ipairs(fetch('HMGET', CLAIMS, indices)) do
  if parse_claim(text).owner == ARGV[1] then
    scores[#scores + 1] = time
    scores[#scores + 1] = indices[i]
  end
end
each('ZADD', DUE, scores)
if #scores > 0 then look_by(header, time) end
return #scores / 2
