-- Have members of a group that has ended run again, and its continuation after them: a new round of the run. What is to run
-- again is written aside first, a slice at a time, under keys that expire, while the group stands as it has ended; the last
-- call puts it in its place. What came of it before is forgotten after that, by forget.lua, and until then nobody claims.
-- Touches: header outcomes order claims deadlines blocks floors stale events open; again:<token>:*; workers (KEYS 3) and
-- clock; no key of the run expires any more.
-- ARGV: token of this call, index of the member (empty: all that failed), where the call before this one ended (empty at
-- first). Answers MORE, where to go on, indices, and those of them that were lost; or REOPENED, specification, indices, lost,
-- 1 when the continuation may be published; or why nothing was done: GONE, PARTIAL (keys are missing), OPEN, CANCELLED, INNER
-- (a member of another run opened it), ABSENT, SUCCEEDED, NOTHING, ENOUGH (what is left out has to stay so).
local token, wanted, at = ARGV[1], ARGV[2], ARGV[3]
local KEPT_ASIDE = 600000
local NEAR = 1000 -- milliseconds that slices may be apart
local LOOKED = 1000 -- members that one call looks at, of which not all have failed
local ASIDE = RUN .. 'again:' .. token .. ':'
local THAWED, COUNTS = ASIDE .. 'blocks', ASIDE .. 'counts'
local ANEW = {} -- where the new content of a key is written: one member is few enough to be written at once
for _, key in ipairs({CLAIMS, DUE, FLOORS, ORDER, STALE}) do
  ANEW[key] = wanted == '' and ASIDE .. string.sub(key, #RUN + 1) or key
end
local header = load(
  'closed', 'reopened:' .. token, 'parent', 'n', 'spec', 'continuation', 'round', 'queue_wait', 'timeout', 'enough',
  'stride')

local function has_succeeded(text)
  return string.sub(text, 1, 10) == 'SUCCEEDED '
end

local function refusal()
  if header.parent ~= '' then return 'INNER' end
  if header.state == 'CANCELLED' then return 'CANCELLED' end
  if header.closed == 0 then return 'OPEN' end
  if wanted == '' then return end
  local text = tonumber(wanted) < header.n and outcome_of(header, wanted)
  if not text then return 'ABSENT' end
  if has_succeeded(text) then return 'SUCCEEDED' end
  if header.enough > 0 and header.SUCCEEDED >= header.enough then return 'ENOUGH' end
end

local function row_of(index, text, is_in_block)
  local state, attempt = string.match(text, '^([%u_]+) (%d+)')
  local bytes = #text - string.find(text, '\n', 1, true) + blob_bytes(blobs_of_outcome(text))
  return {index = index, state = state, attempt = tonumber(attempt), bytes = bytes, is_in_block = is_in_block}
end

-- Rows of those of these members that failed; of a group that failed also of those left out or cancelled.
local function add_failed(rows, indices)
  for i, text in ipairs(fetch('HMGET', OUTCOMES, indices)) do
    local found = text or outcome_in_block(header, indices[i])
    local is_left_out = string.sub(found, 1, 10) == 'CANCELLED ' and header.state ~= 'FAILED'
    if not (has_succeeded(found) or is_left_out) then rows[#rows + 1] = row_of(tonumber(indices[i]), found, not text) end
  end
end

-- A slice of what failed, from a member on: its rows, the blocks that the record had ended, and the member after it.
local function failed_from(first)
  local rows, ended, after = {}, {}, first
  while after < header.n and #rows < CUT and after - first < LOOKED do
    local b, indices = block_of(header, after), {}
    local block = b and get_block(b) or {}
    local last = b and select(2, block_range(header, b)) or math.min(after + CUT, header.n) - 1
    if block.kind == 'r' then
      indices = failures_in(block)
    else
      for index = after, last do indices[#indices + 1] = tostring(index) end
    end
    local count = #rows
    add_failed(rows, indices)
    if block.kind == 'e' and #rows > count then ended[#ended + 1] = b end -- all of it, as all of it ended alike
    after = last + 1
  end
  return rows, ended, after
end

-- Write aside what is to run again, each with its next attempt; answers members, and those that were lost.
local function put_aside(rows, ended, time)
  local names, claims, scores, floors, stale, members, lost = {}, {}, {}, {}, {}, {}, {}
  local counts = {}
  local function count(name, by) counts[name] = (counts[name] or 0) + by end
  for i, row in ipairs(rows) do names[i] = row.index end
  for i, granted in ipairs(fetch('HMGET', FLOORS, names)) do
    local row = rows[i]
    local floor = math.max(row.attempt, tonumber(granted or 0))
    claims[#claims + 1] = row.index
    claims[#claims + 1] = claim_text(
      {attempt = floor, losses = 0, retries = 0, waits = 0, queued = time, since = 0, owner = '-'})
    floors[#floors + 1] = row.index
    floors[#floors + 1] = floor
    if not row.is_in_block then stale[#stale + 1] = row.index end
    count('outcome_bytes', row.bytes)
    if row.index < header.n then
      scores[#scores + 1] = time + header.queue_wait
      scores[#scores + 1] = row.index
      members[#members + 1] = row.index
      if row.state == 'LOST' then lost[#lost + 1] = row.index end
      count('recorded', 1)
      count(row.state, 1)
      if row.is_in_block then count('in_blocks', 1) end
    end
  end
  if #rows > 0 then redis.call('HSETNX', COUNTS, 'begun', time) end
  each('HSET', ANEW[CLAIMS], claims)
  each('HSET', ANEW[FLOORS], floors)
  each('ZADD', ANEW[DUE], scores)
  each('RPUSH', ANEW[STALE], stale)
  each('SADD', THAWED, ended)
  for name, by in pairs(counts) do redis.call('HINCRBY', COUNTS, name, by) end
  return members, lost
end

-- Copy a slice of the order without what is to run again; answers where the next one begins, nil at the end.
local function order_from(first)
  local names, kept, indices, kept_at = redis.call('LRANGE', ORDER, first, first + LOOKED - 1), {}, {}, {}
  for i, name in ipairs(names) do indices[i] = block_named(name) and '-' or name end
  local again = fetch('HMGET', ANEW[FLOORS], indices)
  for i, name in ipairs(names) do
    local b = block_named(name)
    local is_open = again[i] or (b and redis.call('SISMEMBER', THAWED, b) == 1)
    if not is_open then kept[#kept + 1] = name end
  end
  each('RPUSH', ANEW[ORDER], kept)
  return #names == LOOKED and first + LOOKED or nil
end

-- Copy a slice of the floors that stay; answers where the next one begins, nil at the end.
local function floors_from(cursor)
  local after, found = unpack(redis.call('HSCAN', FLOORS, cursor, 'COUNT', LOOKED))
  for i = 1, #found, 2 do redis.call('HSETNX', ANEW[FLOORS], found[i], found[i + 1]) end
  return after ~= '0' and after or nil
end

-- One member of a block that the record ended: each of the others gets an outcome of its own.
local function split_block(index)
  local b = block_of(header, index)
  local block = b and get_block(b) or {}
  if block.kind ~= 'e' then return end
  local values, names = {}, {}
  local first, last = block_range(header, b)
  for other = first, last do
    values[#values + 1] = other
    values[#values + 1] = outcome_in_block(header, other)
    names[#names + 1] = other
  end
  each('HSET', OUTCOMES, values)
  each('RPUSH', ORDER, names)
  redis.call('LREM', ORDER, 1, 'b' .. b)
  redis.call('HSET', BLOCKS, b, 't')
  header.in_blocks = header.in_blocks - #names
end

-- The one member that is wanted.
local function wanted_row()
  local text = outcome_of(header, wanted)
  split_block(wanted)
  local own = redis.call('HGET', OUTCOMES, wanted)
  return {row_of(tonumber(wanted), own or text, not own)}
end

-- The continuation runs again after others, or where it has failed alone.
local function with_continuation(rows, has_others)
  if header.continuation == 0 then return rows end
  local text = redis.call('HGET', OUTCOMES, header.n)
  if has_others or not has_succeeded(text) then rows[#rows + 1] = row_of(header.n, text, false) end
  return rows
end

-- Whether what was written aside is due by another time than this one: the clock was set between slices, or the caller took
-- long.
local function is_far(time)
  local begun = tonumber(redis.call('HGET', COUNTS, 'begun'))
  return time < begun - NEAR or time > begun + math.max(NEAR, header.queue_wait / 4)
end

-- Have a slice of what was written aside be due by this time; answers where the next one begins, nil at the end.
local function due_from(cursor, time)
  local after, found = unpack(redis.call('HSCAN', ANEW[CLAIMS], cursor, 'COUNT', LOOKED))
  local dues = {}
  for i = 1, #found, 2 do
    if tonumber(found[i]) < header.n then
      dues[#dues + 1] = time + header.queue_wait
      dues[#dues + 1] = found[i]
    end
  end
  each('ZADD', ANEW[DUE], dues)
  return after ~= '0' and after or nil
end

-- The clock was set back since then, so that some are due late.
local function is_before(time)
  return time < tonumber(redis.call('HGET', COUNTS, 'begun')) - NEAR
end

-- Put what was written aside in its place.
local function take_over()
  for key, aside in pairs(ANEW) do
    redis.call('UNLINK', key) -- which takes no time, as it does when another one takes its name
    if redis.call('EXISTS', aside) == 1 then redis.call('RENAME', aside, key) end
  end
  local blocks = {}
  for _, b in ipairs(redis.call('SMEMBERS', THAWED)) do
    blocks[#blocks + 1] = b
    blocks[#blocks + 1] = 't'
  end
  each('HSET', BLOCKS, blocks)
end

-- Note whether one of a slice of the members that the policy needs has failed, beside the one that runs again; answers where
-- the next slice begins, nil at the end.
local function critical_from(cursor)
  local after, found = unpack(redis.call('HSCAN', HEADER, cursor, 'MATCH', 'critical:*', 'COUNT', LOOKED))
  for i = 1, #found, 2 do
    local index = string.sub(found[i], #'critical:' + 1)
    local text = index ~= wanted and outcome_of(header, index)
    if text and not has_succeeded(text) then
      redis.call('HSET', COUNTS, 'critical_failed', -1)
      redis.call('PEXPIRE', COUNTS, KEPT_ASIDE)
    end
  end
  return after ~= '0' and after or nil
end

local function more(from, members, lost)
  for _, key in pairs(ANEW) do redis.call('PEXPIRE', key, KEPT_ASIDE) end
  redis.call('PEXPIRE', THAWED, KEPT_ASIDE)
  redis.call('PEXPIRE', COUNTS, KEPT_ASIDE)
  return {'MORE', from, members or {}, lost or {}}
end

if not header then return {'GONE'} end
local lacks_manifest = header.spent == 0 and redis.call('EXISTS', MANIFEST) == 0
if header.closed == 1 and header.n > 0 and (lacks_manifest or lacks_outcomes(header)) then
  return {'PARTIAL'}
end
local phase, place = string.match(at ~= '' and at or 'members 0', '^(%a+) (%d+)$')
if header['reopened:' .. token] == 1 then -- done before: its answer got lost
  local first = phase == 'again' and tonumber(place) or 0
  local open = redis.call('ZRANGE', DUE, first, first + LOOKED - 1)
  if #open == LOOKED then return {'MORE', 'again ' .. first + LOOKED, open, {}} end
  return {'REOPENED', header.spec, open, {}, header.state ~= 'RUNNING' and 1 or 0}
end
local why = refusal()
if why then return {why, header.spec} end

local members, lost = {}, {}
if at == '' and redis.call('EXISTS', COUNTS) == 1 then -- a call with this token got no further
  redis.call('HSET', COUNTS, 'begun', 0)
  redis.call('UNLINK', THAWED, COUNTS)
  for key, aside in pairs(ANEW) do
    if aside ~= key then redis.call('UNLINK', aside) end
  end
end
if wanted ~= '' and header.critical == 1 and phase == 'members' then phase, place = 'critical', 0 end
if phase == 'critical' then
  local after = critical_from(place)
  if after then return more('critical ' .. after) end
  phase, place = 'members', 0
end
local is_enough = header.enough > 0 and header.SUCCEEDED >= header.enough
if phase == 'members' then
  local rows, ended, after = {}, {}, header.n
  if wanted ~= '' then
    rows = wanted_row()
  elseif not is_enough then
    rows, ended, after = failed_from(tonumber(place))
  end
  if after == header.n then with_continuation(rows, #rows > 0 or redis.call('EXISTS', COUNTS) == 1) end
  if after == header.n and #rows == 0 and redis.call('EXISTS', COUNTS) == 0 then
    return {is_enough and 'ENOUGH' or 'NOTHING', header.spec}
  end
  -- By the time that the run goes on in: where nobody looked while the clock was set, it is another one from now on.
  members, lost = put_aside(rows, ended, wake(KEYS[3]))
  if after < header.n then return more('members ' .. after, members, lost) end
  if #rows >= CUT then return more('order 0', members, lost) end
  phase, place = 'order', 0
end
if phase == 'order' and wanted == '' then
  local after = order_from(place)
  if after then return more('order ' .. after, members, lost) end
  phase, place = 'floors', 0
end
if phase == 'floors' then
  local after = floors_from(place)
  if after then return more('floors ' .. after, members, lost) end
end

local time = wake(KEYS[3])
if phase == 'floors' and is_far(time) then
  redis.call('HSET', COUNTS, 'begun', time)
  phase, place = 'dues', 0
end
if phase == 'dues' then
  local after = due_from(place, time)
  if after then return more('dues ' .. after, members, lost) end
  if is_before(time) then
    redis.call('HSET', COUNTS, 'begun', time)
    return more('dues 0', members, lost)
  end
end
redis.call('HDEL', COUNTS, 'begun')
if wanted == '' then
  take_over()
else
  for _, index in ipairs({wanted, header.n}) do
    if redis.call('HEXISTS', CLAIMS, index) == 1 then redis.call('LREM', ORDER, 1, index) end
  end
end
header.critical_failed = 0
local counts = redis.call('HGETALL', COUNTS)
for i = 1, #counts, 2 do header[counts[i]] = header[counts[i]] - tonumber(counts[i + 1]) end
redis.call('UNLINK', THAWED, COUNTS)
for _, key in ipairs(LASTING) do redis.call('PERSIST', key) end
for _, key in ipairs(PASSING) do redis.call('PERSIST', key) end
each_blob('PERSIST')
header['reopened:' .. token] = 1
header.state, header.closed, header.overdue = 'RUNNING', 0, 0
header.cut = redis.call('EXISTS', STALE) == 1 and FORGETTING or 0
header.round, header.reason, header.finished, header.look = header.round + 1, '', 0, 0
header.published, header.told = 0, 0
header.failed_before = header.FAILED + header.TIMED_OUT + header.LOST
local look = time + header.queue_wait
if header.cut == FORGETTING then look = time end
if header.timeout > 0 then
  header.deadline = time + header.timeout
  look = math.min(look, header.deadline)
end
look_by(header, look)
event('reopen', 'members', header.n - header.recorded)
settle(header, time)
save(header)
return {'REOPENED', header.spec, members, lost, header.state ~= 'RUNNING' and 1 or 0}
