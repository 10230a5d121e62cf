-- What the scripts of flows share. KEYS: flow values steps members journal flows ended blobs uses names.
-- ARGV: prefix, flow id, then those of the script, which `take` gives one after the other.
local FLOW, VALUES, STEPS, MEMBERS, JOURNAL, FLOWS, ENDED, BLOBS, USES, NAMES = unpack(KEYS)
local PREFIX, ID = ARGV[1], ARGV[2]
local TERMINAL = {cancelled = true, completed = true, failed = true, lost = true}
local LETTERS = {
  pending = 'p', ready = 'y', queued = 'q', running = 'r', waiting = 'w', paused = 'z', cancelling = 'x',
  cancelled = 'k', completed = 'd', failed = 'f', reused = 'u', cached = 'c', skipped = 's'
}
local CHUNK = 1000
local position = 2

local function take()
  position = position + 1
  return ARGV[position]
end

local function number(value) return string.format('%.0f', value) end

-- Calls a command with many arguments, so many at a time.
local function each(command, key, values)
  for first = 1, #values, CHUNK do
    redis.call(command, key, unpack(values, first, math.min(first + CHUNK - 1, #values)))
  end
end

local function load()
  local found = redis.call('HMGET', FLOW, 'status', 'version', 'epoch', 'generation', 'seq', 'beats', 'owner',
    'requests', 'created', 'tokens', 'counts', 'fields')
  if not found[1] then return nil end
  return {
    status = found[1], old = found[1], version = tonumber(found[2]), epoch = tonumber(found[3]),
    generation = found[4], seq = tonumber(found[5]), beats = tonumber(found[6]), owner = found[7] or '',
    requests = found[8] or '[]', kept = {owner = found[7], requests = found[8]}, created = found[9], tokens = found[10], present = found[11], fields = found[12], counts = {}
  }
end

-- The whole row: its hash, and its large fields.
local function record() return {redis.call('HGETALL', FLOW), redis.call('HGETALL', VALUES)} end

local function count(counts, old, new)
  if old then counts[old] = (counts[old] or 0) - 1 end
  if new then counts[new] = (counts[new] or 0) + 1 end
end

local function add_up(key, prefix, counts)
  for name, change in pairs(counts) do
    if change ~= 0 then redis.call('HINCRBY', key, prefix .. name, change) end
  end
end

-- Small fields, and counts, are lines of one text: a line feed, the name in quotes, a colon, and JSON, which has none.
local function without(lines, name)
  local first = string.find(lines, '\n"' .. name .. '":', 1, true)
  if not first then return lines end
  local last = string.find(lines, '\n', first + 1, true)
  return string.sub(lines, 1, first - 1) .. (last and string.sub(lines, last) or '')
end

local function counted(lines, counts)
  for state, change in pairs(counts) do
    if change ~= 0 then
      local amount = tonumber(string.match(lines, '\n"' .. state .. '":(%d+)') or 0) + change
      lines = without(lines, state)
      if amount > 0 then lines = lines .. '\n"' .. state .. '":' .. number(amount) end
    end
  end
  return lines
end

local function note(flow, time, epoch, kind, step, visit, index, attempt, data)
  flow.seq = flow.seq + 1
  redis.call('XADD', JOURNAL, number(flow.seq) .. '-0', 'k', kind, 's', step, 'v', visit, 'i', index, 'a', attempt,
    'd', data, 't', time, 'e', number(epoch), 'g', flow.generation)
end

-- A row is its state, a line feed, and a run of JSON objects of which the later wins.
local function split(row)
  local feed = string.find(row, '\n', 1, true)
  return string.sub(row, 1, feed - 1), string.sub(row, feed)
end

local function first_of(bucket, buckets, size) return math.ceil(bucket * size / buckets) end

local function begin_group(row, size)
  local buckets = math.min(60, size)
  local values = {row .. ':size', number(size), row .. ':c:pending', number(size)}
  for bucket = 0, buckets - 1 do
    values[#values + 1] = row .. ':s:' .. bucket .. ':p'
    values[#values + 1] = number(first_of(bucket + 1, buckets, size) - first_of(bucket, buckets, size))
  end
  redis.call('HSET', STEPS, unpack(values))
end

local function set_step(flow, step, visit, status, size, fields)
  local name = '@' .. step .. '\n' .. visit
  local row = redis.call('HGET', STEPS, name)
  if not row then
    row = redis.call('HINCRBY', STEPS, '#', 1)
    if status == '' then status = 'pending' end
    redis.call('HSET', STEPS, name, row, row, status .. '\n' .. fields)
    count(flow.counts, nil, status)
  else
    local old, present = split(redis.call('HGET', STEPS, row))
    if status == '' then status = old end
    redis.call('HSET', STEPS, row, status .. present .. fields)
    if status ~= old then count(flow.counts, old, status) end
  end
  if size ~= '' and redis.call('HEXISTS', STEPS, row .. ':size') == 0 then begin_group(row, tonumber(size)) end
  return row
end

local function group_of(flow, step, visit)
  local row = redis.call('HGET', STEPS, '@' .. step .. '\n' .. visit) or set_step(flow, step, visit, '', '', '{}')
  return row, tonumber(redis.call('HGET', STEPS, row .. ':size') or 0)
end

local function raise_top(row, size, top)
  if size == 0 and top > tonumber(redis.call('HGET', STEPS, row .. ':top') or 0) then
    redis.call('HSET', STEPS, row .. ':top', number(top))
  end
end

-- Members that have completed in a block, from the first one up to the one before the end.
local function set_block(flow, step, visit, first, behind, content)
  local row, size = group_of(flow, step, visit)
  redis.call('HSET', MEMBERS, row .. ':b' .. first, content)
  local spans = redis.call('HGET', STEPS, row .. ':blocks') or ''
  redis.call('HSET', STEPS, row .. ':blocks', spans .. first .. '-' .. behind .. ';')
  local buckets, strips = math.min(60, size), {}
  local at, stop = tonumber(first), math.min(tonumber(behind), size)
  if at < stop then add_up(STEPS, row .. ':c:', {pending = at - stop, completed = stop - at}) end
  while at < stop do
    local bucket = math.min(math.floor(at * buckets / size), buckets - 1)
    local following = math.min(first_of(bucket + 1, buckets, size), stop)
    strips[bucket .. ':p'], strips[bucket .. ':d'] = at - following, following - at
    at = following
  end
  add_up(STEPS, row .. ':s:', strips)
  raise_top(row, size, tonumber(behind))
end

-- Where the blocks of a group are, in order: first member as text, the same as a number, the member behind.
local function blocks_of(row)
  local spans = {}
  for first, behind in string.gmatch(redis.call('HGET', STEPS, row .. ':blocks') or '', '(%d+)-(%d+);') do
    spans[#spans + 1] = {first, tonumber(first), tonumber(behind)}
  end
  table.sort(spans, function(one, other) return one[2] < other[2] end)
  return spans
end

local function is_in_block(spans, index)
  local low, high = 1, #spans
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local span = spans[middle]
    if index < span[2] then
      high = middle - 1
    elseif index >= span[3] then
      low = middle + 1
    else
      return true
    end
  end
  return false
end

local function set_members(flow, step, visit, amount)
  local row, size = group_of(flow, step, visit)
  local buckets, spans = math.min(60, size), nil
  local states, strips, values, top = {}, {}, {}, 0
  for _ = 1, amount do
    local index, status, fields = take(), take(), take()
    local name = row .. ':' .. index
    local written = redis.call('HGET', MEMBERS, name)
    local old, present = 'pending', '\n'
    if written then
      old, present = split(written)
    else
      spans = spans or blocks_of(row)
      if is_in_block(spans, tonumber(index)) then old = 'completed' end
    end
    if status == '' then status = old end
    redis.call('HSET', MEMBERS, name, status .. present .. fields)
    local place = tonumber(index)
    if place >= top then top = place + 1 end
    if old ~= status and place < size then
      local bucket = math.min(math.floor(place * buckets / size), buckets - 1)
      count(states, old, status)
      count(strips, bucket .. ':' .. LETTERS[old], bucket .. ':' .. LETTERS[status])
    end
  end
  add_up(STEPS, row .. ':c:', states)
  add_up(STEPS, row .. ':s:', strips)
  raise_top(row, size, top)
end

-- Takes the row of a step out again, with its members.
local function cut(flow, step, visit)
  local name = '@' .. step .. '\n' .. visit
  local row = redis.call('HGET', STEPS, name)
  if not row then return end
  local status = split(redis.call('HGET', STEPS, row))
  count(flow.counts, status, nil)
  local gone = {name, row}
  local known = redis.call('HMGET', STEPS, row .. ':size', row .. ':top')
  if known[1] or known[2] then
    local members = {}
    for index = 0, tonumber(known[1] or known[2]) - 1 do members[#members + 1] = row .. ':' .. index end
    for _, span in ipairs(blocks_of(row)) do members[#members + 1] = row .. ':b' .. span[1] end
    each('HDEL', MEMBERS, members)
    for _, name in ipairs({':size', ':top', ':blocks'}) do gone[#gone + 1] = row .. name end
    for state, letter in pairs(LETTERS) do
      gone[#gone + 1] = row .. ':c:' .. state
      for bucket = 0, 59 do gone[#gone + 1] = row .. ':s:' .. bucket .. ':' .. letter end
    end
  end
  each('HDEL', STEPS, gone)
end

local function set_field(flow, name, kind, text)
  if name == 'generation' then
    flow.generation = text
    return
  end
  local fields = without(flow.fields, name)
  if kind == 's' then fields = fields .. '\n"' .. name .. '":' .. text end
  if kind == 'l' then redis.call('HSET', VALUES, name, text) else redis.call('HDEL', VALUES, name) end
  flow.is_changed = flow.is_changed or fields ~= flow.fields
  flow.fields = fields
end

local function keep_blob(digest, content)
  if redis.call('ZADD', USES, 'NX', 0, ID .. '\n' .. digest) == 1 then
    if redis.call('HINCRBY', BLOBS, digest, 1) == 1 then redis.call('SET', PREFIX .. ':blob:' .. digest, content) end
  end
end

-- Writes what a change says: blobs, fields of the flow, rows to cut, lines, steps, blocks, members, each after its
-- number.
local function write(flow, time, epoch)
  for _ = 1, tonumber(take()) do keep_blob(take(), take()) end
  for _ = 1, tonumber(take()) do set_field(flow, take(), take(), take()) end
  for _ = 1, tonumber(take()) do cut(flow, take(), take()) end
  for _ = 1, tonumber(take()) do note(flow, time, epoch, take(), take(), take(), take(), take(), take()) end
  for _ = 1, tonumber(take()) do set_step(flow, take(), take(), take(), take(), take()) end
  for _ = 1, tonumber(take()) do set_block(flow, take(), take(), take(), take(), take()) end
  for _ = 1, tonumber(take()) do set_members(flow, take(), take(), tonumber(take())) end
end

local function expire(milliseconds)
  for i = 1, 5 do redis.call('PEXPIRE', KEYS[i], milliseconds) end
end

-- Gives the flow the next number in the order of all changes, and tells those who wait for one; a user of the access list
-- who has no right to the channel changes flows all the same.
local function count_change()
  redis.call('ZADD', PREFIX .. ':changed', redis.call('INCR', PREFIX .. ':changes'), ID)
  redis.pcall('PUBLISH', PREFIX .. ':news', '')
end

-- Writes a field that mostly is empty, and is not kept then.
local function keep(flow, name, empty)
  if flow[name] == empty then
    if flow.kept[name] then redis.call('HDEL', FLOW, name) end
  elseif flow[name] ~= flow.kept[name] then
    redis.call('HSET', FLOW, name, flow[name])
  end
end

-- Writes the row of the flow back; where its state has changed, the indices as well.
local function save(flow, time, milliseconds)
  count_change()
  if flow.is_changed then redis.call('HSET', FLOW, 'fields', flow.fields) end
  redis.call('HSET', FLOW, 'counts', counted(flow.present, flow.counts), 'status', flow.status, 'version', number(flow.version), 'epoch', number(flow.epoch),
    'generation', flow.generation, 'seq', number(flow.seq), 'beats', number(flow.beats), 'tokens', flow.tokens)
  keep(flow, 'owner', '')
  keep(flow, 'requests', '[]')
  if flow.status == flow.old then return end
  if flow.old ~= '' then redis.call('ZREM', PREFIX .. ':status:' .. flow.old, ID) end
  redis.call('ZADD', PREFIX .. ':status:' .. flow.status, flow.created, ID)
  if TERMINAL[flow.status] then
    redis.call('ZADD', ENDED, string.match(flow.fields, '\n"completed_at":([^\n]+)') or time, ID)
    expire(milliseconds)
    for _, id in ipairs(redis.call('ZRANGE', FLOW .. ':questions', 0, -1)) do
      if redis.call('HGET', PREFIX .. ':q:' .. id, 'state') == 'open' then
        redis.call('ZADD', PREFIX .. ':questions:due', 0, id)
      end
    end
  elseif TERMINAL[flow.old] then
    redis.call('ZREM', ENDED, ID)
    for i = 1, 5 do redis.call('PERSIST', KEYS[i]) end
  end
end

-- The answer that a call has got before, when it comes again because that was lost on its way.
local function answered(flow, token)
  return string.match(flow.tokens, token .. '=(%d+),(%d+),(%d+);')
end

local function remember(flow, token)
  local line = token .. '=' .. number(flow.seq) .. ',' .. number(flow.version) .. ',' .. number(flow.epoch) .. ';'
  local kept = flow.tokens
  if #kept > 400 then kept = string.sub(kept, (string.find(kept, ';', #kept - 300, true) or #kept) + 1) end
  flow.tokens = kept .. line
end
