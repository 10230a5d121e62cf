-- Remove a run. Touches every key of the run, and open.
-- ARGV: run id; an opener: then only what this one has begun to open and not finished.
if ARGV[2] ~= '' then
  local header = load()
  if not (header and header.state == 'OPENING' and header.opener == ARGV[2]) then return 0 end
end
redis.call('ZREM', OPEN, ARGV[1])
each_blob('UNLINK')
return redis.call('UNLINK', unpack(LASTING)) + redis.call('UNLINK', unpack(PASSING))
