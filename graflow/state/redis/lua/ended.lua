-- The ids of flows that ended up to a time, or beyond so many that ended after them, the oldest first. Reads: ended.
-- ARGV: time, how many are kept, how many are answered at most.
local before, keep, limit = take(), tonumber(take()), tonumber(take())
local excess = math.min(redis.call('ZCARD', ENDED) - keep, limit)
local old = redis.call('ZRANGEBYSCORE', ENDED, '-inf', before, 'LIMIT', 0, limit)
if excess > #old then return redis.call('ZRANGE', ENDED, 0, excess - 1) end
return old
