-- Write a question, and its answer when it gets one, if the question still stands as it was read.
-- KEYS: question, answer, open questions (by time asked), settled ones (by time of expiry)
-- ARGV: the question as it was read ('' for none), as it is to be, the answer ('' for none), its id,
--       time asked, seconds to live when it is settled (0: it is open), the time now
-- Reply: 1 written, 0 somebody else was faster
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[3] ~= '' and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local life = tonumber(ARGV[6])
redis.call('SET', KEYS[1], ARGV[2])
if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[3]) end
if life > 0 then
  redis.call('EXPIRE', KEYS[1], life)
  redis.call('EXPIRE', KEYS[2], life)
  redis.call('ZREM', KEYS[3], ARGV[4])
  redis.call('ZADD', KEYS[4], tonumber(ARGV[7]) + life, ARGV[4])
  redis.call('EXPIRE', KEYS[4], life)
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', ARGV[7])
else
  redis.call('ZADD', KEYS[3], ARGV[5], ARGV[4])
  redis.call('ZREM', KEYS[4], ARGV[4])
end
return 1
