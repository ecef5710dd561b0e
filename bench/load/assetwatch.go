package main

import (
	"context"
	"fmt"

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
	requestToken   = 4
	refSource      = 1
	refAsset       = 2
	synced         = 2
	changes        = 4
	resumeToken    = 6
	headRevision   = 7
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

// assetwatch watches a source whole, or one of its assets, or those that are listed. each: as in dialect.
type assetwatch struct {
	source               string
	named, filters, each int
	assets               []string
	stamp                protowire.Number
	resume               bool
}

func (a assetwatch) watch(ctx context.Context, client *grpc.ClientConn, number int, total *counters) {
	told := dialect{method: watchStatus, each: a.each, synced: synced, change: changes, head: headRevision}
	told.at = []protowire.Number{status, a.stamp}
	request := a.request(number)
	if a.resume && number < a.filters {
		told.token = resumeToken
	} else if token, known := total.tokens.Load(number % a.filters); known {
		request = bytesField(request, requestToken, token.([]byte))
	}
	told.watch(ctx, client, request, number, total)
}

// request of a stream. Filters differ in which of the states that never occur here they leave out.
func (a assetwatch) request(number int) (request []byte) {
	for _, name := range a.assets {
		request = bytesField(request, requestAssets, ref(a.source, name))
	}
	if len(a.assets) > 0 {
		return request
	}
	if a.named > 0 {
		return bytesField(nil, requestAssets, ref(a.source, madeUp(number%a.named)))
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

func ref(source, name string) []byte {
	return bytesField(bytesField(nil, refSource, []byte(source)), refAsset, []byte(name))
}

// madeUp names an asset as bench/changes.py does.
func madeUp(number int) string { return fmt.Sprintf("tid:asset-%06d", number) }

// asking asks for one asset after another, an answer at a time; each answer counts as a change.
type asking struct {
	source string
	named  int
}

func (a asking) watch(ctx context.Context, client *grpc.ClientConn, number int, total *counters) {
	request := bytesField(nil, getAsset, ref(a.source, madeUp(number%max(a.named, 1))))
	total.open.Add(1)
	total.synced.Add(1)
	for ctx.Err() == nil {
		var answer []byte
		if client.Invoke(ctx, getStatus, &request, &answer) != nil {
			total.failed.Add(1)
			return
		}
		total.took(answer, 1)
	}
}
