-- The time.
return now()
