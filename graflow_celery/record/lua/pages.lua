-- Blocks that were recorded whole. Touches nothing; reads header blocks pages floors.
-- ARGV: first index, index after the last one (-1: all), bytes after which an answer ends. Answers stride, number of
-- members, numbers of the blocks and what page_text says of each, and the index to go on with (-1: none).
local header = load('n', 'stride', 'round')
if not header or lacks_outcomes(header) then return {false} end
local found, bytes = {}, 0
if header.stride == 0 then return {0, header.n, found, -1} end
local stop = tonumber(ARGV[2])
if stop < 0 or stop > header.n then stop = header.n end
for b = math.floor(ARGV[1] / header.stride), math.ceil(stop / header.stride) - 1 do
  if bytes >= tonumber(ARGV[3]) then return {header.stride, header.n, found, b * header.stride} end
  local kind = string.sub(redis.call('HGET', BLOCKS, b) or '', 1, 1)
  if kind == 'r' or kind == 'e' then
    local text = page_text(header, b)
    found[#found + 1] = b
    found[#found + 1] = text
    bytes = bytes + #text
  end
end
return {header.stride, header.n, found, -1}
