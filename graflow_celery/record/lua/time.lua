-- The only time that scripts know. The loader puts it in front of every script, and before it the name of the clock.
local function server_time()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Milliseconds of the server's clock without the steps that it has made, see look.lua; never before the last look.
local function now()
  local clock = redis.call('HMGET', CLOCK, 'offset', 'looked')
  return math.max(server_time() + (clock[1] or 0), tonumber(clock[2] or 0))
end
