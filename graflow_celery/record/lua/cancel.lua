-- End a run as CANCELLED. Touches: header outcomes order claims due blocked events open; manifest shared children expire.
-- ARGV: reason. Answers 1 when this call ended something, and the children; or MORE: call again, to end the rest.
local header = load()
if not header then return {false} end
if header.closed == 1 then return {0, redis.call('SMEMBERS', CHILDREN)} end
if header.state == 'OPENING' then
  redis.call('HSET', HEADER, 'cut', 1)
  return {1, {}}
end
if cut(header, now(), 'CANCELLED', ARGV[1]) then return {'MORE'} end
return {1, redis.call('SMEMBERS', CHILDREN)}
