-- KEYS[1]  a lock: the token of its holder
-- ARGV[1]  the caller's token
-- ARGV[2]  milliseconds that the lock lives from now
-- Replies 1, or 0 when the caller does not hold it.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
