-- Since when no live worker knows a task that members need. Touches: header.
-- ARGV: what names the task, 1 when one knows it, milliseconds without a call after which it begins anew. Answers milliseconds.
local field = 'lacking:' .. ARGV[1]
local header = load()
if not header or header.closed == 1 then return 0 end
if ARGV[2] == '1' then
  redis.call('HDEL', HEADER, field)
  return 0
end
local time = now()
local first, last = string.match(redis.call('HGET', HEADER, field) or '', '^(%d+) (%d+)$')
if not first or time - last > tonumber(ARGV[3]) then first = time end
redis.call('HSET', HEADER, field, string.format('%d %d', first, time))
return time - first
