-- KEYS[1]  a key of a channel
-- KEYS[2]  says that this write has been done; further keys: marks of writes that it stands in for
-- ARGV[1]  milliseconds to remember that
-- ARGV[2]  1 to do nothing when the write has been done already
-- ARGV[3]  the command that writes, and its arguments after the key
-- Replies 1, or 0 when nothing was done.
if ARGV[2] == '1' and redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], 1, 'PX', ARGV[1])
end
redis.call(ARGV[3], KEYS[1], unpack(ARGV, 4))
return 1
