package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	watchStatus = "/assetwatch.v1.AssetStatusService/WatchStatus"
	getStatus   = "/assetwatch.v1.AssetStatusService/GetAssetStatus"
)

// Numbers of the fields, as in the schema.
const (
	getAsset       = 1
	requestAssets  = 1
	requestSources = 2
	requestStates  = 3
	refSource      = 1
	refAsset       = 2
	synced         = 2
	changes        = 4
	status         = 1
	observeTime    = 7
	seconds        = 1
	nanos          = 2
)

// The states there are changes to, and those that a filter may name without effect.
const (
	statesUsed = 3
	statesMax  = 6
)

// assetwatch watches a source whole, or one of its assets.
type assetwatch struct {
	source         string
	named, filters int
	stamp          protowire.Number
}

func (a assetwatch) watch(context context.Context, client *grpc.ClientConn, number int, total *counters) {
	stream, err := client.NewStream(context, &grpc.StreamDesc{ServerStreams: true}, watchStatus)
	request := a.request(number)
	if err != nil || stream.SendMsg(&request) != nil || stream.CloseSend() != nil {
		total.failed.Add(1)
		return
	}
	reader := reader{stamp: a.stamp, live: a.stamp == 0, total: total}
	for first := true; ; first = false {
		var message []byte
		if stream.RecvMsg(&message) != nil {
			total.failed.Add(1)
			return
		}
		if first {
			total.open.Add(1)
		}
		reader.sampled = a.stamp != 0 && number%sampleEvery == 0 && total.measuring.Load()
		reader.read(message)
	}
}

// request of a stream. Filters differ in which of the states that never occur here they leave out.
func (a assetwatch) request(number int) (request []byte) {
	if a.named > 0 {
		return bytesField(nil, requestAssets, ref(a.source, number%a.named))
	}
	request = bytesField(nil, requestSources, []byte(a.source))
	if variant := number % a.filters; variant > 0 {
		for state := uint64(1); state <= statesMax; state++ {
			if state <= statesUsed || variant>>(state-statesUsed-1)&1 == 1 {
				request = protowire.AppendVarint(protowire.AppendTag(request, requestStates, protowire.VarintType), state)
			}
		}
	}
	return request
}

// ref names an asset as bench/changes.py does.
func ref(source string, number int) []byte {
	return bytesField(bytesField(nil, refSource, []byte(source)), refAsset, fmt.Appendf(nil, "tid:asset-%06d", number))
}

// reader counts the changes of one stream, once it is live: in sync. It keeps their ages while sampled.
type reader struct {
	stamp         protowire.Number
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
		number, value, rest = field(rest)
		switch {
		case number == synced && !r.live:
			r.live = true
			r.total.synced.Add(1)
		case number == changes && r.live:
			n++
			if r.sampled {
				r.ages = append(r.ages, float64(now.Sub(stamped(value, r.stamp)).Microseconds())/1000)
			}
		}
	}
	r.total.took(message, n)
	r.total.keep(r.ages)
}

// stamped digs a time of the status out of an encoded Change.
func stamped(change []byte, field protowire.Number) time.Time {
	stamp := find(find(change, status), field)
	var at [3]int64
	for len(stamp) > 0 {
		number, _, used := protowire.ConsumeTag(stamp)
		value, more := protowire.ConsumeVarint(stamp[used:])
		at[number] = int64(value)
		stamp = stamp[used+more:]
	}
	return time.Unix(at[seconds], at[nanos])
}

// find returns the last length-delimited field of that number, a part of the message.
func find(message []byte, wanted protowire.Number) (found []byte) {
	for len(message) > 0 {
		number, value, rest := field(message)
		if number == wanted {
			found = value
		}
		message = rest
	}
	return found
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

// asking asks for one asset after another, an answer at a time; each answer counts as a change.
type asking struct {
	source string
	named  int
}

func (a asking) watch(context context.Context, client *grpc.ClientConn, number int, total *counters) {
	request := bytesField(nil, getAsset, ref(a.source, number%max(a.named, 1)))
	total.open.Add(1)
	total.synced.Add(1)
	for context.Err() == nil {
		var answer []byte
		if client.Invoke(context, getStatus, &request, &answer) != nil {
			total.failed.Add(1)
			return
		}
		total.took(answer, 1)
	}
}
