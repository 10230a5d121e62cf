-- KEYS[1]  a lock: the token of its holder
-- ARGV[1]  the caller's token
-- Replies 1, or 0 when the caller does not hold it.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
