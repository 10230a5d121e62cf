-- Make unclaimed members due at once, a slice of them. Touches: header claims deadlines blocks open; reads blocked.
-- ARGV: how many that are not due yet were left as they are by the calls before this one; how many to look at. Answers the
-- first of these numbers for the next call, -1 when there is none to make.
local left, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local header = load('closed', 'stride')
if not header or header.closed == 1 then return -1 end
local time = now()
local indices, scores, written, blocks = {}, {}, {}, {}
local entries = redis.call('ZRANGEBYSCORE', DUE, '(' .. time, '+inf', 'LIMIT', left, count)
for _, entry in ipairs(entries) do
  local b = header.stride > 0 and block_named(entry)
  local block = b and get_block(b)
  if not b then
    indices[#indices + 1] = entry
  elseif block.kind == 'o' then
    block.waits = 0
    blocks[#blocks + 1] = b
    blocks[#blocks + 1] = open_text(block)
    scores[#scores + 1] = time
    scores[#scores + 1] = entry
  end
end
for i, text in ipairs(fetch('HMGET', CLAIMS, indices)) do
  local claim = parse_claim(text)
  if is_free(claim) and not redis.call('ZSCORE', BLOCKED, indices[i]) then
    if claim.waits > 0 then -- nobody waited that long: what is published now has its first wait again
      claim.waits = 0
      written[#written + 1] = indices[i]
      written[#written + 1] = claim_text(claim)
    end
    scores[#scores + 1] = time
    scores[#scores + 1] = indices[i]
  end
end
each('HSET', CLAIMS, written)
each('HSET', BLOCKS, blocks)
each('ZADD', DUE, scores)
if #scores > 0 then look_by(header, time) end
save(header)
return #entries < count and -1 or left + #entries - #scores / 2
