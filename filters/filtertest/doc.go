// Package filtertest holds a filter to its contract (filters.Filter): whatever
// message, whatever daemon, whatever moment the caller loses patience at, it
// answers in time, changes nothing that it was not asked to, and never calls
// clean what it could not look at. Every filter's tests call Run.
package filtertest
