package console

import (
	"io"
	"net/http"
)

// inProcess carries requests to a handler without a network between.
type inProcess struct{ handler http.Handler }

// RoundTrip returns with the header of the answer; the body is read while the
// handler writes it. A reader that closes it ends the handler's writing.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	body, writer := io.Pipe()
	w := &pipeResponse{
		header: make(http.Header), pipe: writer, begun: make(chan struct{}),
		resp: &http.Response{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Body: body, ContentLength: -1},
	}
	if r.Body == nil {
		r = r.Clone(r.Context())
		r.Body = http.NoBody
	}
	go func() {
		defer func() {
			if recover() != nil {
				w.WriteHeader(http.StatusInternalServerError)
				_ = writer.CloseWithError(io.ErrUnexpectedEOF) // as a connection that is cut
				return
			}
			w.WriteHeader(http.StatusOK)
			_ = writer.Close()
		}()
		t.handler.ServeHTTP(w, r)
	}()
	select {
	case <-w.begun:
		return w.resp, nil
	case <-r.Context().Done():
		_ = body.CloseWithError(r.Context().Err()) // the handler writes to nobody, and ends
		return nil, r.Context().Err()
	}
}

// pipeResponse is an http.ResponseWriter into a pipe.
type pipeResponse struct {
	header http.Header
	pipe   *io.PipeWriter
	resp   *http.Response
	begun  chan struct{} // closed when resp is complete
	wrote  bool
}

func (w *pipeResponse) Header() http.Header { return w.header }

func (w *pipeResponse) WriteHeader(code int) {
	if w.wrote {
		return
	}
	w.wrote = true
	w.resp.StatusCode, w.resp.Status, w.resp.Header = code, http.StatusText(code), w.header.Clone()
	close(w.begun)
}

func (w *pipeResponse) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(p)
}
