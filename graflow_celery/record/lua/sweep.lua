-- Find overdue members of one run. Touches: header outcomes order claims deadlines blocks blocked events open; clock;
-- reads the header of the parent (named by the header); manifest shared children expire at the end.
-- ARGV: limit, run, token of this call. Answers AGAIN when this very call has found something before and its answer got
-- lost, or MORE: call again, as a slice of what is to end has ended; else the specification, lost and waiting indices, 1 for
-- the continuation, 1 when the group ended now, the children to cancel, the indices that are LOST now, whole blocks that
-- wait, and 1 when leave_out.lua is to be called.
local OPENING_WAIT = 600000
local limit, token = tonumber(ARGV[1]), ARGV[3]
local header = load(
  'spec', 'closed', 'parent', 'deadline', 'lease', 'n', 'queue_wait', 'max_in_flight', 'running', 'stride', 'damaged', 'swept')
if not header then
  redis.call('ZREM', OPEN, ARGV[2])
  return {false}
end
local time = now()
if header.state == 'OPENING' then
  if tonumber(redis.call('ZSCORE', OPEN, header.run) or 0) <= time then
    each_blob('UNLINK')
    redis.call('UNLINK', unpack(LASTING))
    redis.call('UNLINK', unpack(PASSING))
    redis.call('ZREM', OPEN, header.run)
  end
  return {false}
end
if header.closed == 1 then
  redis.call('ZREM', OPEN, header.run)
  return {false}
end
if redis.call('EXISTS', MANIFEST) == 0 or (header.state == 'RUNNING' and redis.call('EXISTS', DUE) == 0) then
  error('GRAFLOW-DAMAGED keys of it are missing')
end
if header.swept == token then return {'AGAIN'} end
if header.damaged ~= '' then redis.call('HDEL', HEADER, 'damaged') end -- it was mended
if header.cut == FORGETTING then
  local has_more = forget(header)
  save(header)
  if has_more then return {'MORE'} end
end
if header.ending == 'CANCELLED' or (header.parent ~= '' and redis.call('HGET', header.parent, 'cut') == '1') then
  if cut(header, time, 'CANCELLED', 'the group around it was cancelled') then return {'MORE'} end
  return {header.spec, {}, {}, 0, 1, redis.call('SMEMBERS', CHILDREN), {}, {}, 0}
end
local is_over_time = header.deadline > 0 and time >= header.deadline
if header.state == 'RUNNING' and (header.ending == 'FAILED' or is_over_time) then
  if cut(header, time, 'FAILED', 'timeout') then return {'MORE'} end
  redis.call('HSET', HEADER, 'swept', token)
  return {header.spec, {}, {}, header.closed == 0 and 1 or 0, 1, redis.call('SMEMBERS', CHILDREN), {}, {}, 0}
end

if header.leaving == 1 then
  local _, has_more = leave_out(header, time)
  save(header)
  if has_more and header.recorded < header.n then return {'MORE'} end
end

-- What is overdue, up to the limit: indices, whose blocks are thawed where one was lost, and names of blocks that nobody
-- claimed, which wait on whole.
local function overdue_entries(grace)
  local entries = redis.call('ZRANGEBYSCORE', DUE, '-inf', time, 'LIMIT', 0, limit)
  if header.stride == 0 then return entries, {} end
  local indices, names, texts, scores, count = {}, {}, {}, {}, 0
  for _, entry in ipairs(entries) do
    if count >= limit then break end
    local b = block_named(entry)
    local block = b and get_block(b)
    if not b then
      indices[#indices + 1] = entry
      count = count + 1
    elseif block.kind == 'c' and time < grace then
      scores[#scores + 1] = grace
      scores[#scores + 1] = entry
    else
      local first, last = block_range(header, b)
      count = count + last - first + 1
      if block.kind == 'o' then
        block.waits = math.min(block.waits + 1, MAX_DOUBLINGS)
        texts[#texts + 1] = b
        texts[#texts + 1] = open_text(block)
        scores[#scores + 1] = time + header.queue_wait * 2 ^ block.waits
        scores[#scores + 1] = entry
        names[#names + 1] = entry
      else
        thaw(header, b)
        for index = first, last do indices[#indices + 1] = tostring(index) end
      end
    end
  end
  each('HSET', BLOCKS, texts)
  each('ZADD', DUE, scores)
  return indices, names
end

-- While the server stood still nobody could beat: leases live on for half their length after that.
local resumed = tonumber(redis.call('HGET', CLOCK, 'resumed') or 0)
local grace = resumed + math.floor(header.lease / 2)
local overdue, open_blocks = overdue_entries(grace)
local claims = fetch('HMGET', CLAIMS, overdue)
local limits = budgets(header, overdue)
local lost, waiting, rows, written, scores, given_up = {}, {}, {}, {}, {}, {}
local continues = 0

local function keep(index, claim, due)
  written[#written + 1] = index
  written[#written + 1] = claim_text(claim)
  scores[#scores + 1] = due
  scores[#scores + 1] = index
end

local function publish(list, index)
  if tonumber(index) == header.n then continues = 1 else list[#list + 1] = index end
end

for i, index in ipairs(overdue) do
  local claim = parse_claim(claims[i])
  if is_owned(claim) and claim.waits == 0 and time < grace then
    keep(index, claim, grace)
  elseif is_owned(claim) then
    claim.losses = claim.losses + 1
    header.losses = header.losses + 1
    if claim.losses >= limits[i] then
      local death = claim.waits == 1 and redis.call('HGET', HEADER, 'death:' .. index)
      local payload = claim.losses .. ' ' .. (death or '')
      rows[#rows + 1] = {index = tonumber(index), state = 'LOST', claim = claim, payload = payload}
      given_up[#given_up + 1] = index
    else
      claim.waits = 0
      queue_again(claim, '-', time)
      if tonumber(index) < header.n then header.running = header.running - 1 end
      keep(index, claim, time + header.queue_wait)
      publish(lost, index)
    end
  elseif claim.owner == '@' then
    if tonumber(index) < header.n then header.retrying = header.retrying - 1 end
    claim.waits = 0
    queue_again(claim, '-', time)
    keep(index, claim, time + header.queue_wait)
    publish(waiting, index)
  else
    claim.waits = math.min(claim.waits + 1, MAX_DOUBLINGS)
    keep(index, claim, time + header.queue_wait * 2 ^ claim.waits)
    local is_full = header.max_in_flight > 0 and header.running >= header.max_in_flight
    if not (is_full and redis.call('ZSCORE', BLOCKED, index)) then publish(waiting, index) end
  end
end

each('HSET', CLAIMS, written)
record(header, rows, time)
each('ZADD', DUE, scores)
local gone, has_more = leave_out(header, time)

-- Those that are to run, be it that they would be left out with a later slice only.
local function needed(indices)
  indices = without(gone, indices)
  if not has_more then return indices end
  local kept = {}
  for i, text in ipairs(fetch('HMGET', CLAIMS, indices)) do
    if not is_left_out(header, parse_claim(text)) then kept[#kept + 1] = indices[i] end
  end
  return kept
end

lost, waiting = needed(lost), needed(waiting)
local waiting_blocks = {}
for _, name in ipairs(open_blocks) do
  if not (gone[name] or has_more) then waiting_blocks[#waiting_blocks + 1] = block_named(name) end
end
if #lost + #rows > 0 then event('lost', 'count', #lost + #rows) end
local has_ended = settle(header, time)
if has_ended and header.closed == 0 then continues = 1 end
if #rows > 0 and not has_ended and header.state ~= 'RUNNING' and header.closed == 0 then
  event('continuation')
  close(header)
end
if #rows > 0 then
  for _, index in ipairs(needed(ready(header))) do waiting[#waiting + 1] = index end
end
if header.closed == 0 then
  local first = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
  local look = tonumber(first[2] or time + header.queue_wait)
  if header.state == 'RUNNING' and header.deadline > 0 then look = math.min(look, header.deadline) end
  header.look = look
  redis.call('ZADD', OPEN, look, header.run)
end
if #overdue + #open_blocks > 0 or has_ended then header.swept = token end
save(header)
return {header.spec, lost, waiting, continues, has_ended and 1 or 0, {}, given_up, waiting_blocks, has_more and 1 or 0}
