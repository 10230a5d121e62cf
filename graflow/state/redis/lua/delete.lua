-- Removes a flow that has ended, or what is left of one that has expired. Touches: everything that names it.
-- Answers 'ok' and 1 when it was there, or 'state' and the state.
local found = redis.call('HMGET', FLOW, 'status', 'name')
if found[1] and not TERMINAL[found[1]] then return {'state', found[1]} end
local uses = redis.call('ZRANGEBYLEX', USES, '[' .. ID .. '\n', '[' .. ID .. '\ng')
for _, use in ipairs(uses) do
  local digest = string.sub(use, #ID + 2)
  if #digest == 64 then
    redis.call('ZREM', USES, use)
    if redis.call('HINCRBY', BLOBS, digest, -1) <= 0 then
      redis.call('HDEL', BLOBS, digest)
      redis.call('UNLINK', PREFIX .. ':blob:' .. digest)
    end
  end
end
for _, id in ipairs(redis.call('ZRANGE', FLOW .. ':questions', 0, -1)) do
  redis.call('UNLINK', PREFIX .. ':q:' .. id, PREFIX .. ':q:' .. id .. ':lines')
  for _, index in ipairs({':questions', ':questions:open', ':questions:due'}) do redis.call('ZREM', PREFIX .. index, id) end
end
redis.call('UNLINK', FLOW .. ':questions')
for i = 1, 5 do redis.call('UNLINK', KEYS[i]) end
redis.call('ZREM', FLOWS, ID)
redis.call('ZREM', ENDED, ID)
redis.call('ZREM', PREFIX .. ':changed', ID)
for status in string.gmatch('pending queued running paused cancelling cancelled completed failed lost', '%a+') do
  redis.call('ZREM', PREFIX .. ':status:' .. status, ID)
end
for _, name in ipairs(found[2] and {found[2]} or redis.call('SMEMBERS', NAMES)) do
  local key = PREFIX .. ':name:' .. name
  redis.call('ZREM', key, ID)
  if redis.call('EXISTS', key) == 0 then redis.call('SREM', NAMES, name) end
end
return {'ok', found[1] and 1 or 0}
