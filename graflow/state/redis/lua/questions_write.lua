-- Writes rows of questions, all of them or none.
-- Touches: q:<id>, q:<id>:lines, questions, questions:open, questions:due, flow:<id>:questions. Reads: flow:<id>.
-- KEYS: questions, questions:open, questions:due. ARGV: prefix, how many rows; for each: id, flow, kind, state, at, due (or
-- ''), version, data, time before which it is written (or ''), 1 when its flow may have ended, how many lines, and these.
-- Answers 'ok'; 'seen' when a row is not as it was read, or it is too late; 'missing' and the flow; 'ended', the flow and its
-- state.
local PREFIX = ARGV[1]
local TERMINAL = {cancelled = true, completed = true, failed = true, lost = true}
local position = 2
local function take()
  position = position + 1
  return ARGV[position]
end

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local rows = {}
for _ = 1, tonumber(ARGV[2]) do
  local row = {
    id = take(), flow = take(), kind = take(), state = take(), at = take(), due = take(), version = take(), data = take(),
    before = take(), ends = take(), lines = {}
  }
  for i = 1, tonumber(take()) do row.lines[i] = take() end
  rows[#rows + 1] = row
end
for _, row in ipairs(rows) do
  local status = redis.call('HGET', PREFIX .. ':flow:' .. row.flow, 'status')
  if not status then return {'missing', row.flow} end
  if TERMINAL[status] and row.ends ~= '1' then return {'ended', row.flow, status} end
  local present = redis.call('HGET', PREFIX .. ':q:' .. row.id, 'version') or '0'
  if tonumber(row.version) ~= tonumber(present) + 1 then return {'seen'} end
  if row.before ~= '' and now >= tonumber(row.before) then return {'seen'} end
end
for _, row in ipairs(rows) do
  local key = PREFIX .. ':q:' .. row.id
  redis.call('HSET', key, 'flow', row.flow, 'kind', row.kind, 'state', row.state, 'at', row.at, 'version', row.version,
    'data', row.data)
  for _, line in ipairs(row.lines) do redis.call('RPUSH', key .. ':lines', line) end
  redis.call('ZADD', PREFIX .. ':flow:' .. row.flow .. ':questions', row.at, row.id)
  if row.kind == 'question' then
    redis.call('ZADD', KEYS[1], row.at, row.id)
    if row.state == 'open' then redis.call('ZADD', KEYS[2], row.at, row.id) else redis.call('ZREM', KEYS[2], row.id) end
  end
  if row.due == '' then redis.call('ZREM', KEYS[3], row.id) else redis.call('ZADD', KEYS[3], row.due, row.id) end
end
return {'ok'}
