-- Runs that a sweeper has to look at. KEYS: open (read), clock (written).
-- ARGV: limit; milliseconds between two looks (of anybody) that mean that the server stood still in between; the time that
-- the caller's last look answered (0: none), and the milliseconds that have passed since at least, and at most, on a clock
-- that nobody sets; the milliseconds by which it is believed, from the answer of a call before, that the server's clock was
-- set ahead (empty: any), or `ask`.
-- A step of the server's clock is made up for, so that for those who wait time goes on as it did. Answers the time, the
-- milliseconds since the last look, the step that nobody has dealt with yet, and the runs; or, to `ask`, the time, that, 0,
-- no runs, and 1: nothing was done, since the clock was set or the caller stood still before it asked.
local known, least, most = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local clock = redis.call('HMGET', CLOCK, 'offset', 'looked', 'reset', 'unsettled')
local offset = tonumber(clock[1] or 0)
local time = server_time() + offset
local last = tonumber(clock[2] or time)
-- What the caller knows from before a step was made up for, by anybody else, or forgotten is no time of this clock.
local reset = tonumber(clock[3])
if reset and reset ~= known and time - reset <= most then known = 0 end
-- Whether the server stood still or its clock was set, those can tell that have looked before.
if known == 0 and time - last > tonumber(ARGV[2]) then return {time, time - last, 0, {}, 0} end

local slack, step = 1000 + most / 1000, 0
local ahead, behind = time - known - most, time - known - least
if known > 0 and behind < -slack then
  step = behind
elseif time < last - slack then
  step = time - last
elseif known > 0 and ahead > slack and time - last > slack then
  if ARGV[6] == 'ask' then return {time, time - last, 0, {}, 1} end
  step = math.min(ahead, time - last) -- those that looked meanwhile have seen none, and it was the caller that stood still
  step = math.min(step, tonumber(ARGV[6]) or step)
  if step <= slack then step = 0 end
end
if step ~= 0 then
  time = time - step
  -- What others know from before that may be of the time that was wrong.
  -- Should this answer get lost, or its caller die, the next one hears of the step.
  redis.call('HSET', CLOCK, 'offset', offset - step, 'reset', math.max(time, last), 'unsettled', step)
end
local pause = time - last
if step ~= 0 or pause > tonumber(ARGV[2]) then redis.call('HSET', CLOCK, 'resumed', math.max(time, last)) end
time = math.max(time, last)
redis.call('HSET', CLOCK, 'looked', time)
if step == 0 then step = tonumber(clock[4] or 0) end
return {time, pause, step, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time, 'LIMIT', 0, ARGV[1]), 0}
