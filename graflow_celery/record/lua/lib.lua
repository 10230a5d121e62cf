-- Shared by every script of a run: the loader puts time.lua and this in front.
-- KEYS 1 and 2, always: what all keys of the run begin with, open. One server holds them all: a cluster is refused.
-- Times are milliseconds of the server's clock. In each script the first write is one that an out-of-memory server
-- refuses, so that such a script changes nothing at all.
local RUN, OPEN = KEYS[1], KEYS[2]
local HEADER, MANIFEST, SHARED, OUTCOMES = RUN .. 'header', RUN .. 'manifest', RUN .. 'shared', RUN .. 'outcomes'
local ORDER, CLAIMS, DUE, BLOCKED = RUN .. 'order', RUN .. 'claims', RUN .. 'due', RUN .. 'blocked'
local EVENTS, CHILDREN, FLOORS = RUN .. 'events', RUN .. 'children', RUN .. 'floors'

local EVENTS_KEPT = 1000
local MAX_DOUBLINGS = 6
local SLICE = 4000 -- arguments of one command: Lua unpacks at most some 8000

-- Fields of the header that are text; all others are numbers, 0 when absent.
local TEXTS = {
  state = true, run = true, spec = true, epoch = true, reason = true, digest = true, critical = true, parent = true,
  opener = true, rest = true,
}

local function typed(name, value)
  if TEXTS[name] then return value or '' end
  return value and tonumber(value) or 0
end

-- The header as a table, or nil when the run is gone. The named fields are read at once, any other one when it is first
-- asked for. What is set stays apart from what was read, and `save` writes it.
local function load(...)
  local values = redis.call('HMGET', HEADER, 'state', ...)
  if not values[1] then return nil end
  local stored = {state = values[1]}
  for i = 1, select('#', ...) do
    local name = select(i, ...)
    stored[name] = typed(name, values[i + 1])
  end
  setmetatable(stored, {
    __index = function(_, name)
      local value = typed(name, redis.call('HGET', HEADER, name))
      stored[name] = value
      return value
    end,
  })
  return setmetatable({}, {__index = stored})
end

local function save(header)
  local changed, stored = {}, getmetatable(header).__index
  for name, value in pairs(header) do
    if value ~= stored[name] then
      changed[#changed + 1] = name
      changed[#changed + 1] = value
      stored[name] = value
    end
  end
  if #changed > 0 then redis.call('HSET', HEADER, unpack(changed)) end
end

-- One variadic command in slices.
local function each(command, key, arguments)
  for first = 1, #arguments, SLICE do
    redis.call(command, key, unpack(arguments, first, math.min(first + SLICE - 1, #arguments)))
  end
end

-- Values of one variadic reading command in slices, false where there is none.
local function fetch(command, key, members)
  if #members > 0 and #members <= SLICE then return redis.call(command, key, unpack(members)) end
  local values = {}
  for first = 1, #members, SLICE do
    local part = redis.call(command, key, unpack(members, first, math.min(first + SLICE - 1, #members)))
    for i = 1, #part do values[first + i - 1] = part[i] end
  end
  return values
end

-- Several answers as one text, with `;` between them and spaces within lists: clients read few items fast.
local function as_text(...)
  local parts = {...}
  for i, part in ipairs(parts) do
    if type(part) == 'table' then parts[i] = table.concat(part, ' ') end
  end
  return table.concat(parts, ';')
end

local function event(kind, ...)
  redis.call('XADD', EVENTS, 'MAXLEN', '~', EVENTS_KEPT, '*', 'kind', kind, ...)
end

-- A claim as text is "attempt losses retries waits owner"; the owner is `@` until a retry is due, and begins with `-` for
-- nobody (who released it may follow).
local function parse_claim(text)
  if not text then return {attempt = 0, losses = 0, retries = 0, waits = 0, owner = '-'} end
  local attempt, losses, retries, waits, owner = string.match(text, '^(%d+) (%d+) (%d+) (%d+) (.*)$')
  return {
    attempt = tonumber(attempt), losses = tonumber(losses), retries = tonumber(retries), waits = tonumber(waits),
    owner = owner,
  }
end

local function claim_text(claim)
  return string.format('%d %d %d %d %s', claim.attempt, claim.losses, claim.retries, claim.waits, claim.owner)
end

local function is_free(claim)
  return string.sub(claim.owner, 1, 1) == '-'
end

local function is_owned(claim)
  return claim.owner ~= '@' and not is_free(claim)
end

-- Losses after which each of these members is LOST: those of the group, or its own where it has any.
local function budgets(header, indices)
  local limits, names = {}, {}
  if header.own_attempts == 1 then
    for i, index in ipairs(indices) do names[i] = 'attempts:' .. index end
    for i, own in ipairs(fetch('HMGET', HEADER, names)) do limits[i] = own and tonumber(own) end
  end
  for i = 1, #indices do limits[i] = limits[i] or header.max_attempts end
  return limits
end

-- Before a run is entered in `open`: while that was empty workers rested, and nobody looked. They are to beat again.
local function wake(clock, workers, time)
  if redis.call('EXISTS', OPEN) == 1 then return end
  redis.call('HSET', clock, 'looked', time)
  local awake = {}
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', workers, '(' .. time, '+inf')) do
    awake[#awake + 1] = time
    awake[#awake + 1] = worker
  end
  each('ZADD', workers, awake)
end

-- Look at this run no later than `due`; `look` is never before its entry in `open`.
local function look_by(header, due)
  if header.look > 0 and header.look <= due then return end
  redis.call('ZADD', OPEN, 'LT', due, header.run)
  header.look = due
end

-- Wake who waits for outcomes. One event is enough until somebody reads (and takes `told` back).
local function tell(header)
  if header.told == 1 then return end
  event('record', 'recorded', header.recorded)
  header.told = 1
end

-- Nothing more will happen to the run: from here its keys expire.
local function close(header)
  header.closed = 1
  redis.call('ZREM', OPEN, header.run)
  redis.call('UNLINK', CLAIMS, DUE, BLOCKED)
  for _, key in ipairs({HEADER, MANIFEST, SHARED, OUTCOMES, ORDER, EVENTS, CHILDREN, FLOORS}) do
    redis.call('PEXPIRE', key, header.result_ttl)
  end
end

-- Record outcomes of members that have none. Each row: index, state, claim, payload; late, attempt and owner when a worker
-- reported it. An outcome is the line "state attempt time late owner" and the payload; late is `-` when nobody reported it.
local function record(header, rows, time)
  local values, indices = {}, {}
  for _, row in ipairs(rows) do
    local owner = row.owner or (is_owned(row.claim) and row.claim.owner or '')
    local late = row.owner and (row.late and '1' or '0') or '-'
    values[#values + 1] = row.index
    values[#values + 1] = string.format(
      '%s %d %d %s %s\n', row.state, row.attempt or row.claim.attempt, time, late, owner) .. row.payload
    indices[#indices + 1] = row.index
  end
  if #indices == 0 then return end
  each('HSET', OUTCOMES, values)
  each('RPUSH', ORDER, indices)
  each('HDEL', CLAIMS, indices)
  each('ZREM', DUE, indices)
  if header.max_in_flight > 0 then each('ZREM', BLOCKED, indices) end
  for _, row in ipairs(rows) do
    header.outcome_bytes = header.outcome_bytes + #row.payload
    if row.late then
      header.late = header.late + 1
      -- What was granted after the attempt that reported must not report either, should the member run again.
      redis.call('HSET', FLOORS, row.index, row.claim.attempt)
    end
    if row.index < header.n then
      header.recorded = header.recorded + 1
      header[row.state] = header[row.state] + 1
      if is_owned(row.claim) then header.running = header.running - 1 end
      if row.claim.owner == '@' then header.retrying = header.retrying - 1 end
      if row.state ~= 'SUCCEEDED' and string.find(header.critical, ',' .. row.index .. ',', 1, true) then
        header.critical_failed = 1
      end
    end
  end
end

-- Leave out what need not run any more, where the policy says so: all that is open once enough have succeeded; once a
-- member has failed in this round what nobody runs, unless it is being retried. Answers the indices as a set of texts.
local function leave_out(header, time)
  local gone, rows = {}, {}
  if header.state ~= 'RUNNING' then return gone end
  local is_enough = header.enough > 0 and header.SUCCEEDED >= header.enough
  local has_failed = header.fail_fast == 1
    and header.FAILED + header.TIMED_OUT + header.LOST > header.failed_before
  if not (is_enough or has_failed) then return gone end
  local indices = redis.call('ZRANGE', DUE, 0, -1)
  for i, text in ipairs(fetch('HMGET', CLAIMS, indices)) do
    local claim = parse_claim(text)
    if is_enough or (is_free(claim) and claim.retries == 0) then
      rows[#rows + 1] = {index = tonumber(indices[i]), state = 'CANCELLED', claim = claim, payload = header.rest}
      gone[indices[i]] = true
    end
  end
  table.sort(rows, function(a, b) return a.index < b.index end)
  record(header, rows, time)
  -- Groups that members opened end with them; those of a continuation are still to come.
  if is_enough and header.continuation == 0 then header.cut = 1 end
  return gone
end

local function without(gone, indices)
  local kept = {}
  for _, index in ipairs(indices) do
    if not gone[tostring(index)] then kept[#kept + 1] = index end
  end
  return kept
end

-- The last outcome ends the group, once.
local function settle(header, time)
  if header.state ~= 'RUNNING' or header.recorded < header.n then return false end
  -- A group that ran out of time has failed whatever its policy.
  local accepted = header.overdue == 0 and header.SUCCEEDED >= header.min_success and header.critical_failed == 0
  header.state = accepted and 'DONE' or 'FAILED'
  header.finished = time
  event('end', 'state', header.state)
  if header.continuation == 1 then
    redis.call('ZADD', DUE, time + header.queue_wait, header.n)
    look_by(header, time + header.queue_wait)
  else
    close(header)
  end
  return true
end

-- End every open member, and the continuation, with `state`; the group becomes `group_state` unless it is final already.
local function cut(header, time, state, group_state, reason)
  local claims = {}
  local flat = redis.call('HGETALL', CLAIMS)
  for i = 1, #flat, 2 do claims[flat[i]] = flat[i + 1] end
  local rows = {}
  for _, index in ipairs(redis.call('ZRANGE', DUE, 0, -1)) do
    rows[#rows + 1] = {index = tonumber(index), state = state, claim = parse_claim(claims[index]), payload = ''}
  end
  if header.state == 'RUNNING' and header.continuation == 1 and group_state == 'CANCELLED' then
    local claim = parse_claim(claims[tostring(header.n)])
    rows[#rows + 1] = {index = header.n, state = state, claim = claim, payload = ''}
  end
  table.sort(rows, function(a, b) return a.index < b.index end)
  record(header, rows, time)
  header.cut = 1
  header.overdue = group_state == 'FAILED' and 1 or 0
  header.reason = reason
  if header.state ~= 'RUNNING' then
    close(header)
  elseif group_state == 'CANCELLED' then
    header.state = group_state
    header.finished = time
    event('end', 'state', group_state)
    close(header)
  else
    settle(header, time)
  end
  save(header)
end

-- Indices that wait for a slot of `max_in_flight`, as many as are free.
local function ready(header)
  local free = header.max_in_flight - header.running
  if header.max_in_flight == 0 or free <= 0 or header.state ~= 'RUNNING' then return {} end
  local indices = redis.call('ZRANGE', BLOCKED, 0, free - 1)
  if #indices > 0 then each('ZREM', BLOCKED, indices) end
  return indices
end
