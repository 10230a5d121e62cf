-- Keeps what a computation gave, and ends it. Touches: its hash, the indices of kept values.
-- KEYS: the hash, names, the index of its name, ends. ARGV: digest, token, parts, source, time, end (or ''), value,
-- milliseconds after which the server forgets it (or '').
-- Answers 1, or 0 when the computation does not count any more.
local digest, token, parts, source, made, expires, value, lifetime = unpack(ARGV)
local present, name = unpack(redis.call('HMGET', KEYS[1], 'token', 'name'))
if present ~= token then return 0 end
redis.call('HSET', KEYS[1], 'parts', parts, 'source', source, 'made', made, 'value', value)
redis.call('HDEL', KEYS[1], 'owner', 'token', 'beats')
if expires == '' then
  redis.call('HDEL', KEYS[1], 'expires')
  redis.call('PERSIST', KEYS[1])
  redis.call('ZREM', KEYS[4], digest)
else
  redis.call('HSET', KEYS[1], 'expires', expires)
  redis.call('PEXPIRE', KEYS[1], lifetime)
  redis.call('ZADD', KEYS[4], expires, digest)
end
redis.call('SADD', KEYS[2], name)
redis.call('ZADD', KEYS[3], made, digest)
return 1
