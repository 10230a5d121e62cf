-- Lines of a journal. Reads: journal. KEYS: the journal. ARGV: the first place, how many at most (or '').
if ARGV[2] == '' then return redis.call('XRANGE', KEYS[1], ARGV[1] .. '-0', '+') end
return redis.call('XRANGE', KEYS[1], ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])
