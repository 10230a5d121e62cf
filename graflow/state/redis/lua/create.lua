-- Records a flow unless its id is taken. Touches: all keys of the flow, flows ended blobs uses names, its state's index.
-- ARGV: token, name, status, created, digest of the inputs, what a search looks into
-- behind id and name (or ''), retention (ms); then what `write` takes.
-- Answers 1 when it is new, and the row.
local token, name, status, created, digest, searched, retention =
  take(), take(), take(), take(), take(), take(), take()
local present = redis.call('HGET', FLOW, 'made')
if present then return {present == token and 1 or 0, record()} end
redis.call('HSET', FLOW, 'made', token, 'name', name, 'created', created, 'digest', digest)
if searched ~= '' then redis.call('HSET', FLOW, 'searched', searched) end
local flow = {
  status = status, old = '', version = 1, epoch = 0, generation = '0', seq = 0, beats = 0, owner = '', requests = '[]', kept = {},
  created = created, tokens = '', present = '', fields = '', is_changed = true, counts = {}
}
redis.call('ZADD', FLOWS, created, ID)
redis.call('ZADD', PREFIX .. ':name:' .. name, created, ID)
redis.call('SADD', NAMES, name)
write(flow, created, 0)
save(flow, created, retention)
return {1, record()}
