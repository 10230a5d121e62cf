-- Forget a slice of what members came to before they were to run again. Touches: header outcomes stale blobs. Answers MORE:
-- call again.
local header = load('cut', 'n')
local has_more = header and forget(header)
if header then save(header) end
return {has_more and 'MORE' or 0}
