-- The row of a flow. Reads: flow values. Answers false, or the two as lists of names and values.
if redis.call('EXISTS', FLOW) == 0 then return false end
return record()
