-- Beat, leave and list of worker processes. KEYS: workers, workers:info, open (read).
-- ARGV: `beat`, id, info, milliseconds of silence after which anybody is dropped, milliseconds that a worker is silent for
-- while nothing is open, 1 when the info is another one, what the worker can run or nothing (answers the entry's score, 1
-- for such a silence, whom it dropped, 1 when what it can run is not known);
-- `forget`, id; `list`, milliseconds.
local WORKERS, INFO, OPEN = KEYS[1], KEYS[2], KEYS[3]
local what = ARGV[1]
if what == 'forget' then
  redis.call('HDEL', INFO, ARGV[2], ARGV[2] .. '#tasks')
  return redis.call('ZREM', WORKERS, ARGV[2])
end

local time = now()
if what == 'list' then
  local answer = {}
  local seen = redis.call('ZRANGEBYSCORE', WORKERS, time - ARGV[2], '+inf', 'WITHSCORES')
  for i = 1, #seen, 2 do
    local info = redis.call('HGET', INFO, seen[i])
    if info then answer[#answer + 1] = {seen[i], seen[i + 1], time, info} end
  end
  return answer
end

-- Dated ahead, an entry counts as if its worker beat all the time; the next group that opens takes that back.
local rests = redis.call('EXISTS', OPEN) == 0
local score = rests and time + ARGV[5] or time
local is_new = redis.call('ZADD', WORKERS, score, ARGV[2]) == 1
if is_new or ARGV[6] == '1' then redis.call('HSET', INFO, ARGV[2], ARGV[3]) end
local dropped = redis.call('ZRANGEBYSCORE', WORKERS, '-inf', time - ARGV[4], 'LIMIT', 0, 100)
for _, silent in ipairs(dropped) do
  redis.call('ZREM', WORKERS, silent)
  redis.call('HDEL', INFO, silent, silent .. '#tasks')
end
local tasks = ARGV[2] .. '#tasks'
if ARGV[7] ~= '' then redis.call('HSET', INFO, tasks, ARGV[7]) end
return {score, rests and 1 or 0, dropped, redis.call('HEXISTS', INFO, tasks) == 0 and 1 or 0}
