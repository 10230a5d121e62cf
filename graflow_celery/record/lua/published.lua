-- Note that the submitter has sent every member once. Touches: header. Answers 0 for a closed run.
local header = load()
if not header or header.closed == 1 then return 0 end
header.published = 1
save(header)
return 1
