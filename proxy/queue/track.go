package queue

import (
	"math"
	"time"
)

// Workers are few, and a delivery may hang. So destinations stand in tracks by
// what is known of them, and each track may hold so many workers: those that
// hang can't be in the way of those that work, however many they are.

// track is what a destination stands in while it has work.
type track int8

const (
	goodTrack     track = iota // it answered, the last time
	newTrack                   // it never answered yet
	troubledTrack              // it failed or hangs: a probe
	slowTrack                  // mail of the slow lane, to any that is no trouble
	putOffTrack                // nothing goes there: those who come are put off
	tracks
)

// group is a group of routes at work. All under q.mu.
type group struct {
	name   string
	limit  int // of deliveries
	window int // the same for each destination
	active int
	lines  [tracks]fifo[*destination]
}

// tracksOf returns the two tracks where d has work; tracks for none. q.mu is
// held.
func (q *Queue) tracksOf(d *destination) (main, slow track) {
	main, slow = tracks, tracks
	waiting := d.line[freshLine].len() + d.line[retryLine].len()
	late := d.line[slowLine].len()
	switch {
	case d.mode == paused || d.mode == probed:
		if waiting+late > 0 {
			main = putOffTrack
		}
		return main, slow
	case d.mode == probing:
		if waiting+late > 0 {
			main = troubledTrack
		}
		return main, slow
	case d.active >= min(d.window, d.group.window):
		return main, slow
	}
	if waiting > 0 {
		main = q.standing(d)
	}
	if late > 0 && (d.slow == 0 || waiting == 0 && d.slow < d.window/4) {
		slow = slowTrack
	}
	return main, slow
}

// standing is what is known of an open destination.
func (q *Queue) standing(d *destination) track {
	switch {
	case d.active > 0 && q.elapsed()-d.moved > hang:
		return troubledTrack
	case !d.proven:
		return newTrack
	}
	return goodTrack
}

// room is how many more deliveries a track may hold; q.mu is held, by a worker
// that is free.
func (q *Queue) room(t track) int {
	total := q.workers.want
	doubtful := q.held[newTrack] + q.held[troubledTrack] + q.held[slowTrack]
	room := max(total*3/4, 1) - doubtful // a quarter is for those that work
	switch t {
	case troubledTrack:
		return min(room, max(total/4, 1)-q.held[t])
	case slowTrack:
		return min(room, q.config().SlowMaxDeliveries-q.held[t])
	case newTrack:
		return room
	case goodTrack:
		return total - q.held[goodTrack] - doubtful
	}
	return math.MaxInt // to put off takes no time
}

// share is how many deliveries one destination may hold in a track with so much
// room: as all of them get less when room gets scarce, none is left without.
func (t track) share(room int) int {
	switch t {
	case goodTrack:
		return room
	case slowTrack:
		return max(room/2, 1)
	case newTrack, troubledTrack:
		return max(room/4, 1)
	}
	return math.MaxInt
}

// pick finds a delivery to make, in that order of tracks; q.mu is held.
func (q *Queue) pick(order ...track) (job, bool) {
	for _, t := range order {
		room := q.room(t)
		if room <= 0 {
			continue
		}
		for range q.groups {
			g := q.groups[q.turn%uint(len(q.groups))]
			q.turn++
			if d, ok := q.first(g, t, room); ok {
				return q.take(d, t), true
			}
		}
	}
	return job{}, false
}

// first takes a destination out of a track; q.mu is held. One that has its share
// stands aside until a delivery ends.
func (q *Queue) first(g *group, t track, room int) (*destination, bool) {
	if g.active >= g.limit && t != putOffTrack {
		return nil, false
	}
	for g.lines[t].len() > 0 {
		d := g.lines[t].pop()
		d.listed[t] = false
		main, slow := q.tracksOf(d)
		switch {
		case t != main && t != slow || d.group != g: // things changed while it stood there
			q.list(d)
		case d.holds(t)+1 > t.share(room):
			d.listed[t] = true
			q.aside = append(q.aside, standby{d, t})
		default:
			return d, true
		}
	}
	return nil, false
}

// holds is how many deliveries count for d's share.
func (d *destination) holds(t track) int {
	if t == slowTrack {
		return d.slow
	}
	return d.active - d.slow
}

// standby is a destination that has its share of a track.
type standby struct {
	dest  *destination
	track track
}

// list puts d where a worker finds it, if it has work; q.mu is held.
func (q *Queue) list(d *destination) {
	main, slow := q.tracksOf(d)
	for _, t := range [...]track{main, slow} {
		if t == tracks || d.listed[t] {
			continue
		}
		d.listed[t] = true
		d.group.lines[t].push(d)
		q.ready.Signal()
	}
}

// recall lists those who stood aside; q.mu is held.
func (q *Queue) recall() {
	aside := q.aside
	q.aside = nil
	for _, s := range aside {
		s.dest.listed[s.track] = false
		q.list(s.dest)
	}
	q.ready.Signal() // a place is free, for whoever waits for it
}

// groupOf returns the group that a destination belongs to; q.mu is held.
func (q *Queue) groupOf(dest string) *group {
	name := q.groupName(dest)
	for _, g := range q.groups {
		if g.name == name {
			return g
		}
	}
	g := &group{name: name}
	g.adopt(q.config())
	q.groups = append(q.groups, g)
	return g
}

func (g *group) adopt(c *Config) {
	own := c.group(g.name)
	g.limit, g.window = own.MaxDeliveries, own.MaxPerDestination
}

// started notes that a delivery begins; q.mu is held.
func (q *Queue) started(d *destination, t track) {
	if d.active == 0 {
		d.moved = q.elapsed()
	}
	d.active++
	d.group.active++
	q.held[t]++
	if t == slowTrack {
		d.slow++
	}
}

// over notes that it ended; q.mu is held.
func (q *Queue) over(j job) {
	d := j.dest
	d.moved = q.elapsed()
	d.active--
	j.group.active--
	q.held[j.track]--
	if j.track == slowTrack {
		d.slow--
	}
}

// hang is after what time an attempt that came to nothing counts as one, and
// a destination that answers nobody as troubled.
const hang = time.Minute
