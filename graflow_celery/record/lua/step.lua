-- Make up for a step of the server's clock, so that for those who wait time goes on as it did. KEYS: clock.
-- ARGV: milliseconds that it went too far, the offset when that was seen. Answers 1 unless somebody else was faster.
local offset = tonumber(redis.call('HGET', CLOCK, 'offset') or 0)
if offset ~= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', CLOCK, 'offset', offset - ARGV[1])
local time = now()
redis.call('HSET', CLOCK, 'looked', time, 'resumed', time) -- what was written meanwhile has odd deadlines
return 1
