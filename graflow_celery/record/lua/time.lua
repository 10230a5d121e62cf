-- Milliseconds of the server's clock: the only time that scripts know. The loader puts it in front of every script.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
