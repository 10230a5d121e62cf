-- Have members of a group that has ended run again, and its continuation after them: a new round of the run.
-- Touches: header outcomes order claims due floors events open; clock and workers (KEYS 3 and 4); no key of the run expires
-- any more.
-- ARGV: token of this call, index of the member (empty: all that failed).
-- Answers REOPENED, specification, indices, those of them that were lost, 1 when the continuation may be published; or
-- why nothing was done: GONE, OPEN, CANCELLED, INNER (a member of another run opened it), ABSENT, SUCCEEDED, NOTHING,
-- ENOUGH (what is left out has to stay so).
local token, wanted = ARGV[1], ARGV[2]
local header = load('closed', 'reopened:' .. token, 'parent', 'n', 'spec', 'continuation', 'round', 'queue_wait', 'timeout')
if not header then return {'GONE'} end
if header['reopened:' .. token] == 1 then -- done before: its answer got lost
  return {'REOPENED', header.spec, redis.call('ZRANGE', DUE, 0, -1), {}, header.state ~= 'RUNNING' and 1 or 0}
end
if header.parent ~= '' then return {'INNER', header.spec} end
if header.state == 'CANCELLED' then return {'CANCELLED', header.spec} end
if header.closed == 0 then return {'OPEN', header.spec} end
if header.enough > 0 and header.SUCCEEDED >= header.enough and (wanted ~= '' or header.continuation == 0) then
  return {'ENOUGH', header.spec}
end

-- What failed; of a group that failed also what was left out.
local rows = {}
local function choose(index, text)
  local state, attempt = string.match(text, '^([%u_]+) (%d+)')
  if state ~= 'SUCCEEDED' and (state ~= 'CANCELLED' or header.state == 'FAILED' or wanted ~= '') then
    rows[#rows + 1] = {
      index = index, state = state, attempt = tonumber(attempt), bytes = #text - string.find(text, '\n', 1, true),
    }
  end
end

if wanted ~= '' then
  local text = tonumber(wanted) < header.n and redis.call('HGET', OUTCOMES, wanted)
  if not text then return {'ABSENT', header.spec} end
  choose(tonumber(wanted), text)
  if #rows == 0 then return {'SUCCEEDED', header.spec} end
elseif not (header.enough > 0 and header.SUCCEEDED >= header.enough) then
  local left = header.FAILED + header.TIMED_OUT + header.LOST + header.CANCELLED
  for first = 0, header.n - 1, 500 do
    if #rows == left then break end
    local indices = {}
    for index = first, math.min(first + 499, header.n - 1) do indices[#indices + 1] = index end
    for i, text in ipairs(redis.call('HMGET', OUTCOMES, unpack(indices))) do choose(indices[i], text) end
  end
end
local members = #rows
if header.continuation == 1 then
  local text = redis.call('HGET', OUTCOMES, header.n)
  local failed = string.sub(text, 1, 10) ~= 'SUCCEEDED '
  if members > 0 or failed then
    rows[#rows + 1] = {
      index = header.n, attempt = tonumber(string.match(text, '^[%u_]+ (%d+)')),
      bytes = #text - string.find(text, '\n', 1, true),
    }
  end
end
if #rows == 0 then return {'NOTHING', header.spec} end

local time = now()
local again, lost, chosen, names, claims, scores, floors = {}, {}, {}, {}, {}, {}, {}
for i, row in ipairs(rows) do names[i] = row.index end
local granted = fetch('HMGET', FLOORS, names)
for i, row in ipairs(rows) do
  local floor = math.max(row.attempt, tonumber(granted[i] or 0))
  claims[#claims + 1] = row.index
  claims[#claims + 1] = claim_text({attempt = floor, losses = 0, retries = 0, waits = 0, owner = '-'})
  floors[#floors + 1] = row.index
  floors[#floors + 1] = floor
  chosen[tostring(row.index)] = true
  header.outcome_bytes = header.outcome_bytes - row.bytes
  if row.index < header.n then
    scores[#scores + 1] = time + header.queue_wait
    scores[#scores + 1] = row.index
    again[#again + 1] = row.index
    if row.state == 'LOST' then lost[#lost + 1] = row.index end
    header.recorded = header.recorded - 1
    header[row.state] = header[row.state] - 1
  end
end
each('HSET', FLOORS, floors)
each('HSET', CLAIMS, claims)
each('ZADD', DUE, scores)
each('HDEL', OUTCOMES, names)
local order = {}
for _, index in ipairs(redis.call('LRANGE', ORDER, 0, -1)) do
  if not chosen[index] then order[#order + 1] = index end
end
redis.call('UNLINK', ORDER)
each('RPUSH', ORDER, order)
for _, key in ipairs({HEADER, MANIFEST, SHARED, OUTCOMES, ORDER, EVENTS, CHILDREN, FLOORS}) do
  redis.call('PERSIST', key)
end

header.critical_failed = 0
for index in string.gmatch(header.critical, '%d+') do
  local text = not chosen[index] and redis.call('HGET', OUTCOMES, index)
  if text and string.sub(text, 1, 10) ~= 'SUCCEEDED ' then header.critical_failed = 1 end
end
header.state, header.closed, header.cut, header.overdue = 'RUNNING', 0, 0, 0
header.published, header.told = 0, 0
header.failed_before = header.FAILED + header.TIMED_OUT + header.LOST
header.round, header.reason, header.finished, header.look = header.round + 1, '', 0, 0
header['reopened:' .. token] = 1
local look = time + header.queue_wait
if header.timeout > 0 then
  header.deadline = time + header.timeout
  look = math.min(look, header.deadline)
end
wake(KEYS[3], KEYS[4], time)
look_by(header, look)
event('reopen', 'members', members)
settle(header, time)
save(header)
return {'REOPENED', header.spec, again, lost, header.state ~= 'RUNNING' and 1 or 0}
