-- Shared by every script of a run: the loader puts time.lua and this in front.
-- KEYS 1 and 2, always: what all keys of the run begin with, open. One server holds them all: a cluster is refused.
-- Times are milliseconds of the server's clock. In each script the first write is one that an out-of-memory server
-- refuses, so that such a script changes nothing at all.
local RUN, OPEN = KEYS[1], KEYS[2]
local HEADER, MANIFEST, SHARED, OUTCOMES = RUN .. 'header', RUN .. 'manifest', RUN .. 'shared', RUN .. 'outcomes'
local ORDER, CLAIMS, DUE, BLOCKED = RUN .. 'order', RUN .. 'claims', RUN .. 'deadlines', RUN .. 'blocked'
local EVENTS, CHILDREN, FLOORS = RUN .. 'events', RUN .. 'children', RUN .. 'floors'
local BLOCKS, PAGES, STALE = RUN .. 'blocks', RUN .. 'pages', RUN .. 'stale'
local LASTING = {HEADER, MANIFEST, SHARED, OUTCOMES, ORDER, EVENTS, CHILDREN, FLOORS, BLOCKS, PAGES, STALE} -- after the end
local PASSING = {CLAIMS, DUE, BLOCKED} -- until the end

local EVENTS_KEPT = 1000
local MAX_DOUBLINGS = 6
local SLICE = 4000 -- arguments of one command: Lua unpacks at most some 8000
local FORGETTING = 2 -- in `cut`: nobody claims until it is forgotten what members came to before
local CUT = 250 -- entries of `deadlines` that one script ends: some 10 ms, in which nobody else is served

-- Fields of the header that are text; all others are numbers, 0 when absent.
local TEXTS = {
  state = true, run = true, spec = true, epoch = true, reason = true, digest = true, parent = true,
  opener = true, rest = true, damaged = true, swept = true, ending = true,
}

local function typed(name, value)
  if TEXTS[name] then return value or '' end
  return value and (tonumber(value) or error('GRAFLOW-DAMAGED its ' .. name .. ' is no number')) or 0
end

-- The header as a table, or nil when the run is gone. The named fields are read at once, any other one when it is first
-- asked for. What is set stays apart from what was read, and `save` writes it. A record of another format is an error,
-- before anything of it is changed: VERSION is what the program that runs this reads.
local function load(...)
  local values = redis.call('HMGET', HEADER, 'state', 'version', ...)
  if not values[1] then return nil end
  if values[2] ~= VERSION then error('GRAFLOW-VERSION ' .. tostring(values[2])) end
  local stored = {state = values[1]}
  for i = 1, select('#', ...) do
    local name = select(i, ...)
    stored[name] = typed(name, values[i + 2])
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

-- What the group was opened with, which may have bytes for each member; nothing for who has read it.
local function unknown_spec(header, known)
  return header.opener == known and '' or header.spec
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
  return redis.call('XADD', EVENTS, 'MAXLEN', '~', EVENTS_KEPT, '*', 'kind', kind, ...)
end

-- A claim as text is "attempt losses retries waits queued since owner": since when it waits to be claimed (0: since the
-- group was opened), since when it is claimed (0: it is not); the owner is `@` until a retry is due, and begins with `-`
-- for nobody (who released it may follow).
local function parse_claim(text)
  if not text then
    return {attempt = 0, losses = 0, retries = 0, waits = 0, queued = 0, since = 0, owner = '-'}
  end
  local attempt, losses, retries, waits, queued, since, owner =
    string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (.*)$')
  return {
    attempt = tonumber(attempt), losses = tonumber(losses), retries = tonumber(retries), waits = tonumber(waits),
    queued = tonumber(queued), since = tonumber(since), owner = owner,
  }
end

local function claim_text(claim)
  return string.format('%d %d %d %d %d %d %s', claim.attempt, claim.losses, claim.retries, claim.waits, claim.queued,
    claim.since, claim.owner)
end

-- Nobody has it any more, and it waits to be claimed from now on.
local function queue_again(claim, owner, time)
  claim.owner, claim.queued, claim.since = owner, time, 0
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

-- Before a run is entered in `open`: while that was empty workers rested, and nobody looked. They are to beat again. No
-- deadline depends on what the time is corrected by, so that it is the server's own again. Answers the time.
local function wake(workers)
  local time = now()
  if redis.call('EXISTS', OPEN) == 1 then return time end
  local offset = time - server_time()
  time = time - offset
  redis.call('HSET', CLOCK, 'looked', time, 'offset', 0, 'reset', time)
  redis.call('HDEL', CLOCK, 'unsettled')
  local awake = {}
  local resting = redis.call('ZRANGEBYSCORE', workers, offset == 0 and '(' .. time or '-inf', '+inf', 'WITHSCORES')
  for i = 1, #resting, 2 do
    awake[#awake + 1] = math.min(resting[i + 1] - offset, time)
    awake[#awake + 1] = resting[i]
  end
  each('ZADD', workers, awake)
  return time
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
