-- Make unclaimed members due at once, a slice of them, and have a sweeper look. Touches: header claims deadlines blocks open;
-- reads blocked. What others have is due within a lease, and what is to be tried again within its delay: what is due later
-- was written while the server's clock was wrong.
-- ARGV: how many that are not due yet were left as they are by the calls before this one; how many to look at. Answers the
-- first of these numbers for the next call, -1 when there is none to make.
local left, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local header = load('closed', 'stride', 'lease')
if not header or header.closed == 1 then return -1 end
local time = now()
local indices, at, scores, written, blocks, kept = {}, {}, {}, {}, {}, 0

local function due(entry, score)
  scores[#scores + 1] = score
  scores[#scores + 1] = entry
  if score > time then kept = kept + 1 end
end

local function held(entry, score)
  due(entry, math.min(score, time + header.lease))
end

local entries = redis.call('ZRANGEBYSCORE', DUE, '(' .. time, '+inf', 'WITHSCORES', 'LIMIT', left, count)
for i = 1, #entries, 2 do
  local entry, score = entries[i], tonumber(entries[i + 1])
  local b = header.stride > 0 and block_named(entry)
  local block = b and get_block(b)
  if not b then
    indices[#indices + 1] = entry
    at[#at + 1] = score
  elseif block.kind == 'o' then
    block.waits = 0
    blocks[#blocks + 1] = b
    blocks[#blocks + 1] = open_text(block)
    due(entry, time)
  else
    held(entry, score)
  end
end
for i, text in ipairs(fetch('HMGET', CLAIMS, indices)) do
  local index, score, claim = indices[i], at[i], parse_claim(text)
  if is_owned(claim) and claim.waits == 0 then
    held(index, score)
  elseif claim.owner == '@' then
    due(index, claim.queued > time and time + score - claim.queued or score)
  elseif redis.call('ZSCORE', BLOCKED, index) then
    due(index, score)
  else -- nobody has it, or a process that is dead
    if is_free(claim) and claim.waits > 0 then -- nobody waited that long: what is published now has its first wait again
      claim.waits = 0
      written[#written + 1] = index
      written[#written + 1] = claim_text(claim)
    end
    due(index, time)
  end
end
each('HSET', CLAIMS, written)
each('HSET', BLOCKS, blocks)
each('ZADD', DUE, scores)
look_by(header, time)
save(header)
return #entries < 2 * count and -1 or left + kept
