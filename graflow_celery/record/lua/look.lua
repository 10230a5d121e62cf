-- Runs that a sweeper has to look at. KEYS: open (read), clock (written).
-- ARGV: limit; milliseconds between two looks (of anybody) that mean that the server stood still in between.
local OPEN, CLOCK = KEYS[1], KEYS[2]
local time = now()
local last = tonumber(redis.call('HGET', CLOCK, 'looked') or time)
redis.call('HSET', CLOCK, 'looked', time)
if time - last > tonumber(ARGV[2]) then redis.call('HSET', CLOCK, 'resumed', time) end
return redis.call('ZRANGEBYSCORE', OPEN, '-inf', time, 'LIMIT', 0, ARGV[1])
