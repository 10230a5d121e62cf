-- Beat, leave and list of worker processes. KEYS: workers, workers:info.
-- ARGV: `beat`, id, info, milliseconds of silence after which anybody is dropped (answers whom); `forget`, id; `list`, milliseconds.
local WORKERS, INFO = KEYS[1], KEYS[2]
local what = ARGV[1]
if what == 'forget' then
  redis.call('HDEL', INFO, ARGV[2])
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

redis.call('HSET', INFO, ARGV[2], ARGV[3])
redis.call('ZADD', WORKERS, time, ARGV[2])
local dropped = redis.call('ZRANGEBYSCORE', WORKERS, '-inf', time - ARGV[4], 'LIMIT', 0, 100)
for _, silent in ipairs(dropped) do
  redis.call('ZREM', WORKERS, silent)
  redis.call('HDEL', INFO, silent)
end
return dropped
