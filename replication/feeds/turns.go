package feeds

// turns are feeds that wait for their turn to be sent: those that clients wait for, and then the others, each in the order in which they came.
type turns struct{ first, others []*subscription }

func (t *turns) some() bool { return len(t.first)+len(t.others) > 0 }

// take is the next.
func (t *turns) take() *subscription {
	from := &t.first
	if len(*from) == 0 {
		from = &t.others
	}
	sub := (*from)[0]
	(*from)[0], *from = nil, (*from)[1:]
	sub.queued = false
	return sub
}

func (t *turns) add(sub *subscription, first bool) {
	sub.queued = true
	if first {
		t.first = append(t.first, sub)
	} else {
		t.others = append(t.others, sub)
	}
}

// queue has a feed wait for its turn, unless it does.
func (s *Sender) queue(sub *subscription) {
	if !sub.queued {
		s.round.add(sub, s.first&(1<<sub.Partition) != 0)
	}
}

// prefer has some partitions, a bit each, go before others.
func (s *Sender) prefer(partitions uint64) {
	waiting := s.round
	s.first, s.round = partitions, turns{}
	for waiting.some() {
		s.queue(waiting.take())
	}
}
