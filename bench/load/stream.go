package main

import (
	"bytes"
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

// dialect is how a peer is watched: the call, and where its messages hold what counts here.
type dialect struct {
	method string
	both   bool               // the client's side of the stream stays open
	each   int                // every message has so many changes, and is not looked into; 0: they are counted
	synced protowire.Number   // its presence says that the stream is in sync
	change protowire.Number   // each such field is a change
	at     []protowire.Number // the way from there down to the time that ages are counted from; none: no ages
	head   protowire.Number   // a number that says how much the server has committed; 0: there is none
	token  protowire.Number   // what a stream can go on from; 0: it is not kept
}

// watch opens a stream and reads it until it ends, which is a failure.
func (d dialect) watch(ctx context.Context, client *grpc.ClientConn, request []byte, number int, total *counters) {
	var err error
	defer func() { total.ended(err) }()
	stream, err := client.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: d.both}, d.method)
	if err != nil {
		return
	}
	if err = stream.SendMsg(&request); err != nil {
		return
	}
	in := reader{dialect: d, total: total}
	var message []byte
	for first := true; ; first = false {
		if err = stream.RecvMsg(&message); err != nil {
			return
		}
		if first {
			total.open.Add(1)
		}
		if d.each > 0 {
			if first {
				total.synced.Add(1)
			}
			total.took(message, d.each)
			continue
		}
		if d.token > 0 {
			total.tokens.Store(number, bytes.Clone(find(message, d.token)))
		}
		in.sampled = len(d.at) > 0 && number%sampleEvery == 0 && total.measuring.Load()
		in.read(message)
	}
}

// reader counts the changes of one stream, once it is live: in sync. It keeps their ages while sampled.
type reader struct {
	dialect
	live, sampled bool
	ages          []float64
	total         *counters
}

func (r *reader) read(message []byte) {
	now, n := time.Now(), 0
	r.ages = r.ages[:0]
	for rest := message; len(rest) > 0; {
		var number protowire.Number
		var value []byte
		from := rest
		number, value, rest = field(rest)
		switch {
		case number == r.head:
			r.total.saw(varint(from))
		case number == r.synced && !r.live:
			r.live = true
			r.total.synced.Add(1)
		case number == r.change && r.live:
			n++
			if r.sampled {
				r.ages = append(r.ages, float64(now.Sub(moment(find(value, r.at...))).Microseconds())/1000)
			}
		}
	}
	r.total.took(message, n)
	r.total.keep(r.ages)
}

// moment decodes a Timestamp.
func moment(stamp []byte) time.Time {
	var at [3]int64
	for len(stamp) > 0 {
		number, _, rest := field(stamp)
		at[number] = varint(stamp)
		stamp = rest
	}
	return time.Unix(at[seconds], at[nanos])
}

// find goes down from a message by the numbers of length-delimited fields, the last of each; it returns a part of it.
func find(message []byte, way ...protowire.Number) []byte {
	for _, wanted := range way {
		rest := message
		for message = nil; len(rest) > 0; {
			var number protowire.Number
			var value []byte
			if number, value, rest = field(rest); number == wanted {
				message = value
			}
		}
	}
	return message
}

// field splits the first field off; its value is empty unless it is length-delimited.
func field(message []byte) (protowire.Number, []byte, []byte) {
	number, kind, used := protowire.ConsumeTag(message)
	if kind == protowire.BytesType {
		value, more := protowire.ConsumeBytes(message[used:])
		return number, value, message[used+more:]
	}
	return number, nil, message[used+protowire.ConsumeFieldValue(number, kind, message[used:]):]
}

// varint is the number that the first field is.
func varint(message []byte) int64 {
	_, _, used := protowire.ConsumeTag(message)
	value, _ := protowire.ConsumeVarint(message[used:])
	return int64(value)
}

func bytesField(message []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, number, protowire.BytesType), value)
}
