-- KEYS[1]  a key of a channel: JSON text, or a list of JSON texts
-- Replies the text, the list of texts, nil when the key is absent, or 0 when it holds another kind of data.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'string' then
  return redis.call('GET', KEYS[1])
elseif kind == 'list' then
  return redis.call('LRANGE', KEYS[1], 0, -1)
elseif kind == 'none' then
  return nil
end
return 0
