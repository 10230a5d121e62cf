-- Look at a run that is damaged later again, and tell those who wait for it. KEYS: open, header of the run.
-- ARGV: its entry in open, milliseconds, what is the matter.
redis.call('ZADD', KEYS[1], 'XX', now() + ARGV[2], ARGV[1])
if redis.call('TYPE', KEYS[2]).ok == 'hash' then redis.call('HSET', KEYS[2], 'damaged', ARGV[3]) end
