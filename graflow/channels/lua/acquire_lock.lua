-- KEYS[1]  a lock: the token of its holder
-- ARGV[1]  the caller's token
-- ARGV[2]  milliseconds that the lock lives unless it is extended
-- Replies 1 when the caller holds it, also when it held it before (a reply that was lost), or 0.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 1
end
return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
