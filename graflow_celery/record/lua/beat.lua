-- Extend leases, of members and of whole blocks. Touches: deadlines claims blocks; reads header.
-- ARGV: index (or b<number> of a block), attempt, owner of each lease. Answers the state, 1 when the run has ended for
-- this process, the positions (from 0) of the leases of members that are lost, and the members of blocks that are: a block
-- may be thawed meanwhile, and some of it lost.
local header = load('lease', 'stride', 'n')
if not header then return {false} end
local due = now() + header.lease
local lost, kept, gone, singles = {}, {}, {}, {}
for i = 1, #ARGV, 3 do
  if not block_named(ARGV[i]) then singles[#singles + 1] = ARGV[i] end
end
thaw_for(header, singles)
local claims, at = fetch('HMGET', CLAIMS, singles), 0

local function keep(entry)
  kept[#kept + 1] = due
  kept[#kept + 1] = entry
end

local function keep_block(b, attempt, owner)
  local block = get_block(b)
  if block.kind == 'c' and block.attempt == attempt and block.owner == owner then return keep('b' .. b) end
  local first, last = block_range(header, b)
  for index = first, last do
    local claim = parse_claim(block.kind == 't' and redis.call('HGET', CLAIMS, index))
    if claim.attempt == attempt and claim.owner == owner then keep(index) else gone[#gone + 1] = index end
  end
end

for i = 1, #ARGV, 3 do
  local b, attempt, owner = block_named(ARGV[i]), tonumber(ARGV[i + 1]), ARGV[i + 2]
  if b then
    keep_block(b, attempt, owner)
  else
    at = at + 1
    local claim = parse_claim(claims[at])
    if claim.attempt == attempt and claim.owner == owner then keep(ARGV[i]) else lost[#lost + 1] = (i - 1) / 3 end
  end
end
each('ZADD', DUE, kept)
local has_ended = header.state ~= 'RUNNING' and #kept == 0
return {header.state, has_ended and 1 or 0, lost, gone}
