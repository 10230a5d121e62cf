-- Runs that a sweeper has to look at. KEYS: open (read), clock (written).
-- ARGV: limit; milliseconds between two looks (of anybody) that mean that the server stood still in between.
-- Answers the time, the milliseconds since the last look, what the time is corrected by, and the runs.
local time = now()
local last = tonumber(redis.call('HGET', CLOCK, 'looked') or time)
redis.call('HSET', CLOCK, 'looked', time)
if time - last > tonumber(ARGV[2]) then redis.call('HSET', CLOCK, 'resumed', time) end
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time, 'LIMIT', 0, ARGV[1])
return {time, time - last, tonumber(redis.call('HGET', CLOCK, 'offset') or 0), due}
