-- Add an event of a running member. Touches: events; reads header. ARGV: index, attempt, data. Answers 0 for a closed run.
local header = load()
if not header or header.closed == 1 then return 0 end
event('progress', 'index', ARGV[1], 'attempt', ARGV[2], 'data', ARGV[3])
return 1
