-- Have members of a group that has ended run again, and its continuation after them: a new round of the run.
-- Touches: header outcomes order claims deadlines blocks floors events open; workers (KEYS 3) and clock; no key of the run expires
-- any more.
-- ARGV: token of this call, index of the member (empty: all that failed).
-- Answers REOPENED, specification, indices, those of them that were lost, 1 when the continuation may be published; or
-- why nothing was done: GONE, PARTIAL (keys are missing), OPEN, CANCELLED, INNER (a member of another run opened it),
-- ABSENT, SUCCEEDED, NOTHING, ENOUGH (what is left out has to stay so).
local token, wanted = ARGV[1], ARGV[2]
local header = load(
  'closed', 'reopened:' .. token, 'parent', 'n', 'spec', 'continuation', 'round', 'queue_wait', 'timeout', 'enough',
  'stride')

local function refusal()
  if header.parent ~= '' then return 'INNER' end
  if header.state == 'CANCELLED' then return 'CANCELLED' end
  if header.closed == 0 then return 'OPEN' end
end

local function has_succeeded(text)
  return string.sub(text, 1, 10) == 'SUCCEEDED '
end

local function row_of(index, text)
  local state, attempt = string.match(text, '^([%u_]+) (%d+)')
  local names = blobs_of_outcome(text)
  local bytes = #text - string.find(text, '\n', 1, true) + blob_bytes(names)
  return {index = index, state = state, attempt = tonumber(attempt), bytes = bytes, blobs = names}
end

-- Outcomes by position; those that a block has without their payloads.
local function outcomes_of(indices)
  local texts = fetch('HMGET', OUTCOMES, indices)
  for i, index in ipairs(indices) do texts[i] = texts[i] or outcome_in_block(header, index) end
  return texts
end

-- Payloads may be many megabytes: a slice of outcomes is looked at and let go of.
local function add_failed(rows, indices)
  for i, text in ipairs(outcomes_of(indices)) do
    local is_left_out = string.sub(text, 1, 10) == 'CANCELLED ' and header.state ~= 'FAILED'
    if not (has_succeeded(text) or is_left_out) then rows[#rows + 1] = row_of(tonumber(indices[i]), text) end
  end
end

-- What failed; of a group that failed also what was left out or cancelled. Payloads may be many megabytes: a slice of
-- outcomes is looked at and let go of.
local function failed_members()
  local rows, left = {}, header.FAILED + header.TIMED_OUT + header.LOST
  if header.state == 'FAILED' then left = left + header.CANCELLED end
  local step = header.stride > 0 and header.stride or 500
  for first = 0, header.n - 1, step do
    if #rows == left then break end
    local block = header.stride > 0 and get_block(first / step) or {}
    local indices = block.kind == 'r' and failures_in(block) or {}
    if block.kind ~= 'r' then
      for index = first, math.min(first + step, header.n) - 1 do indices[#indices + 1] = index end
    end
    add_failed(rows, indices)
  end
  return rows
end

-- What is to run again, the continuation last; or why nothing is.
local function chosen_rows()
  local rows, is_enough = {}, header.enough > 0 and header.SUCCEEDED >= header.enough
  if wanted ~= '' then
    local text = tonumber(wanted) < header.n and outcome_of(header, wanted)
    if not text then return nil, 'ABSENT' end
    if has_succeeded(text) then return nil, 'SUCCEEDED' end
    if is_enough then return nil, 'ENOUGH' end
    rows = {row_of(tonumber(wanted), text)}
  elseif not is_enough then
    rows = failed_members()
  end
  if header.continuation == 1 then
    local text = redis.call('HGET', OUTCOMES, header.n)
    if #rows > 0 or not has_succeeded(text) then rows[#rows + 1] = row_of(header.n, text) end
  end
  if #rows == 0 then return nil, is_enough and 'ENOUGH' or 'NOTHING' end
  return rows
end

-- Blocks that the record ended, and of which some is to run again: each member gets an outcome of its own. Answers the
-- members by the name of their block.
local function split_blocks(rows)
  local split = {}
  for _, row in ipairs(rows) do
    local b = block_of(header, row.index)
    local block = b and not split['b' .. b] and get_block(b) or {}
    row.is_in_page = block.kind == 'r' and redis.call('HEXISTS', FLOORS, row.index) == 0
    if block.kind == 'e' then
      local values, names = {}, {}
      local first, last = block_range(header, b)
      for index = first, last do
        values[#values + 1] = index
        values[#values + 1] = outcome_in_block(header, index)
        names[#names + 1] = tostring(index)
      end
      each('HSET', OUTCOMES, values)
      redis.call('HSET', BLOCKS, b, 't')
      header.in_blocks = header.in_blocks - #names
      split['b' .. b] = names
    end
  end
  return split
end

-- Take the outcomes back and make the members due, each with its next attempt; answers members, and those that were lost.
local function open_again(rows, time)
  local split = split_blocks(rows)
  local names, claims, scores, floors, members, lost, is_open = {}, {}, {}, {}, {}, {}, {}
  for i, row in ipairs(rows) do names[i] = row.index end
  for i, granted in ipairs(fetch('HMGET', FLOORS, names)) do
    local row = rows[i]
    local floor = math.max(row.attempt, tonumber(granted or 0))
    claims[#claims + 1] = row.index
    claims[#claims + 1] = claim_text(
      {attempt = floor, losses = 0, retries = 0, waits = 0, queued = time, since = 0, owner = '-'})
    floors[#floors + 1] = row.index
    floors[#floors + 1] = floor
    is_open[tostring(row.index)] = true
    header.outcome_bytes = header.outcome_bytes - row.bytes
    if row.index < header.n then
      scores[#scores + 1] = time + header.queue_wait
      scores[#scores + 1] = row.index
      members[#members + 1] = row.index
      if row.state == 'LOST' then lost[#lost + 1] = row.index end
      header.recorded = header.recorded - 1
      if row.is_in_page then header.in_blocks = header.in_blocks - 1 end
      header[row.state] = header[row.state] - 1
    end
  end
  each('HSET', FLOORS, floors)
  each('HSET', CLAIMS, claims)
  each('ZADD', DUE, scores)
  each('HDEL', OUTCOMES, names)
  for _, row in ipairs(rows) do drop_blobs(row.blobs) end
  local order = {}
  for _, index in ipairs(redis.call('LRANGE', ORDER, 0, -1)) do
    if not is_open[index] and not split[index] then order[#order + 1] = index end
    for _, left in ipairs(split[index] or {}) do
      if not is_open[left] then order[#order + 1] = left end
    end
  end
  redis.call('UNLINK', ORDER)
  each('RPUSH', ORDER, order)
  header.critical_failed = 0
  if header.critical == 1 then
    for _, index in ipairs(cjson.decode(header.spec).critical) do
      local text = not is_open[tostring(index)] and outcome_of(header, index)
      if text and not has_succeeded(text) then header.critical_failed = 1 end
    end
  end
  return members, lost
end

if not header then return {'GONE'} end
local lacks_manifest = header.spent == 0 and redis.call('EXISTS', MANIFEST) == 0
if header.closed == 1 and header.n > 0 and (lacks_manifest or lacks_outcomes(header)) then
  return {'PARTIAL'}
end
if header['reopened:' .. token] == 1 then -- done before: its answer got lost
  return {'REOPENED', header.spec, redis.call('ZRANGE', DUE, 0, -1), {}, header.state ~= 'RUNNING' and 1 or 0}
end
local why, rows = refusal(), nil
if not why then rows, why = chosen_rows() end
if why then return {why, header.spec} end

local time = wake(KEYS[3])
local members, lost = open_again(rows, time)
for _, key in ipairs(LASTING) do redis.call('PERSIST', key) end
each_blob('PERSIST')
header['reopened:' .. token] = 1
header.state, header.closed, header.cut, header.overdue = 'RUNNING', 0, 0, 0
header.round, header.reason, header.finished, header.look = header.round + 1, '', 0, 0
header.published, header.told = 0, 0
header.failed_before = header.FAILED + header.TIMED_OUT + header.LOST
local look = time + header.queue_wait
if header.timeout > 0 then
  header.deadline = time + header.timeout
  look = math.min(look, header.deadline)
end
look_by(header, look)
event('reopen', 'members', #members)
settle(header, time)
save(header)
return {'REOPENED', header.spec, members, lost, header.state ~= 'RUNNING' and 1 or 0}
