-- Counts a sign of life of the owner. Touches: flow. ARGV: epoch.
-- Answers 'ok' and the requests, 'stale' and the epoch that is there, or 'missing'.
local epoch = take()
local found = redis.call('HMGET', FLOW, 'status', 'epoch', 'requests')
if not found[1] then return {'missing'} end
if found[2] ~= epoch then return {'stale', found[2]} end
if found[1] == 'running' or found[1] == 'cancelling' then redis.call('HINCRBY', FLOW, 'beats', 1) end
return {'ok', found[3] or '[]'}
