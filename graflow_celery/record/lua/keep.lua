-- Extend what an owner holds of these members, for a process that may be unable to. Touches: deadlines claims blocks; reads
-- header. ARGV: owner, indices. Answers the lease, false when the run is gone. What was abandoned (waits 1) stays so.
local owner = ARGV[1]
local header = load('lease', 'stride', 'n')
if not header then return false end
local due = now() + header.lease
local asked, kept = {}, {}
for i = 2, #ARGV do asked[#asked + 1] = ARGV[i] end
local blocks, indices = whole_blocks(header, asked)
for _, whole in ipairs(blocks) do
  if whole.block.kind == 'c' and whole.block.owner == owner then
    kept[#kept + 1] = due
    kept[#kept + 1] = 'b' .. whole.number
  end
end
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
