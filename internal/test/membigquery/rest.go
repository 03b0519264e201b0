package membigquery

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// routes serves the methods of the REST API.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, serve func(w http.ResponseWriter, r *http.Request, body resource) (resource, error)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /bigquery/v2/projects/{project}/"+path, func(w http.ResponseWriter, r *http.Request) {
			body := resource{}
			if r.Method == http.MethodPost || r.Method == http.MethodPatch {
				if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
					write(w, http.StatusBadRequest, failure(http.StatusBadRequest, "parseError", err))
					return
				}
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			answer, err := serve(w, r, body)
			code, reason := http.StatusOK, ""
			switch {
			case errors.Is(err, errNotFound), err != nil && strings.Contains(err.Error(), "no such table"):
				code, reason = http.StatusNotFound, "notFound"
			case errors.Is(err, errTaken):
				code, reason = http.StatusConflict, "duplicate"
			case err != nil:
				code, reason = http.StatusBadRequest, "invalidQuery"
			}
			if err != nil {
				answer = failure(code, reason, err)
			}
			write(w, code, answer)
		})
	}
	handle("POST datasets", s.createDataset)
	handle("GET datasets/{dataset}", s.getDataset)
	handle("POST datasets/{dataset}/tables", s.createTable)
	handle("GET datasets/{dataset}/tables/{table}", s.getTable)
	handle("PATCH datasets/{dataset}/tables/{table}", s.patchTable)
	handle("POST datasets/{dataset}/tables/{table}/insertAll", s.insertAll)
	handle("POST jobs", s.insertJob)
	handle("POST queries", s.query)
	handle("GET jobs/{job}", s.getJob)
	handle("GET queries/{job}", s.getQueryResults)
	return mux
}

var (
	errNotFound = errors.New("not found")
	errTaken    = errors.New("already exists")
)

func write(w http.ResponseWriter, code int, body resource) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // an error means that the caller has gone
}

// failure returns an error in the JSON that
// https://cloud.google.com/bigquery/docs/error-messages describes.
func failure(code int, reason string, err error) resource {
	return resource{"error": resource{"code": code, "message": err.Error(), "errors": []any{resource{"reason": reason, "message": err.Error()}}}}
}

// idIn returns the given id from a reference in a resource, for example the datasetId of
// a datasetReference.
func idIn(body resource, reference, id string) string {
	r, _ := body[reference].(map[string]any)
	text, _ := r[id].(string)
	return text
}

func (s *Server) createDataset(_ http.ResponseWriter, r *http.Request, body resource) (resource, error) {
	name := idIn(body, "datasetReference", "datasetId")
	if s.datasets[name] != nil {
		return nil, errTaken
	}
	if _, err := s.db.ExecContext(r.Context(), "ATTACH ':memory:' AS "+quoted(name)); err != nil {
		return nil, err
	}
	s.datasets[name] = body
	return body, nil
}

func (s *Server) getDataset(_ http.ResponseWriter, r *http.Request, _ resource) (resource, error) {
	return found(s.datasets[r.PathValue("dataset")])
}

func found(body resource) (resource, error) {
	if body == nil {
		return nil, errNotFound
	}
	return body, nil
}

func (s *Server) createTable(_ http.ResponseWriter, r *http.Request, body resource) (resource, error) {
	dataset, name := r.PathValue("dataset"), idIn(body, "tableReference", "tableId")
	switch {
	case s.datasets[dataset] == nil:
		return nil, errNotFound
	case s.tables[dataset+"."+name] != nil:
		return nil, errTaken
	}
	if err := s.create(r.Context(), dataset, name, body); err != nil {
		return nil, err
	}
	body["type"] = "TABLE"
	if body["view"] != nil {
		body["type"] = "VIEW"
	}
	s.tables[dataset+"."+name] = body
	return body, nil
}

func (s *Server) getTable(_ http.ResponseWriter, r *http.Request, _ resource) (resource, error) {
	return found(s.tables[r.PathValue("dataset")+"."+r.PathValue("table")])
}

// patchTable changes the description of a table or view, and the query of a view.
func (s *Server) patchTable(_ http.ResponseWriter, r *http.Request, body resource) (resource, error) {
	dataset, name := r.PathValue("dataset"), r.PathValue("table")
	table, err := found(s.tables[dataset+"."+name])
	if err != nil {
		return nil, err
	}
	for member, value := range body {
		switch {
		case member == "view" && table["view"] != nil:
			if _, err := s.db.ExecContext(r.Context(), "DROP VIEW "+quoted(dataset)+"."+quoted(name)); err != nil {
				return nil, err
			}
			if err := s.create(r.Context(), dataset, name, body); err != nil {
				return nil, err
			}
		case member != "description":
			return nil, fmt.Errorf("cannot change %s", member)
		}
		table[member] = value
	}
	return table, nil
}

func (s *Server) insertAll(_ http.ResponseWriter, r *http.Request, body resource) (resource, error) {
	dataset, name := r.PathValue("dataset"), r.PathValue("table")
	table, err := found(s.tables[dataset+"."+name])
	if err != nil {
		return nil, err
	}
	types := map[string]string{}
	for _, c := range columns(table) {
		types[c.name] = c.typ
	}
	requested, _ := body["rows"].([]any)
	rows := make([]map[string]any, len(requested))
	for i, row := range requested {
		rows[i] = map[string]any{}
		for column, value := range row.(map[string]any)["json"].(map[string]any) {
			if types[column] == "" {
				return nil, fmt.Errorf("row %d: no such field: %s", i, column)
			}
			if rows[i][column], err = stored(types[column], value); err != nil {
				return nil, fmt.Errorf("row %d: column %s: %w", i, column, err)
			}
		}
	}
	return resource{}, s.insert(r.Context(), dataset, name, rows)
}

// insertJob runs a query job. The job has ended when the method returns.
func (s *Server) insertJob(_ http.ResponseWriter, r *http.Request, body resource) (resource, error) {
	configuration, _ := body["configuration"].(map[string]any)
	query, ok := configuration["query"].(map[string]any)
	if !ok {
		return nil, errors.New("the job is not a query")
	}
	id := idIn(body, "jobReference", "jobId")
	if err := s.runRequest(r, id, query, configuration); err != nil {
		return nil, err
	}
	return jobOf(id, configuration), nil
}

func jobOf(id string, configuration map[string]any) resource {
	return resource{
		"jobReference": resource{"projectId": "p", "jobId": id}, "configuration": configuration, "status": resource{"state": "DONE"},
		"statistics": resource{"totalBytesProcessed": "0", "query": resource{"totalBytesProcessed": "0"}},
	}
}

// query runs a query and returns its result in the same request.
func (s *Server) query(_ http.ResponseWriter, r *http.Request, body resource) (resource, error) {
	id := "query-" + strconv.Itoa(len(s.queries))
	if err := s.runRequest(r, id, body, resource{}); err != nil {
		return nil, err
	}
	return s.jobs[id].json(id), nil
}

func (s *Server) runRequest(r *http.Request, id string, request, configuration map[string]any) error {
	q := Query{Parameters: map[string]any{}, UseCache: true}
	q.SQL, _ = request["query"].(string)
	q.DryRun, _ = configuration["dryRun"].(bool)
	if ms, ok := configuration["jobTimeoutMs"].(string); ok {
		q.Timeout, _ = time.ParseDuration(ms + "ms")
	}
	if cache, ok := request["useQueryCache"].(bool); ok {
		q.UseCache = cache
	}
	if legacy, ok := request["useLegacySql"].(bool); !ok || legacy {
		return errors.New("the query is in legacy SQL")
	}
	parameters, _ := request["queryParameters"].([]any)
	for _, parameter := range parameters {
		p := parameter.(map[string]any)
		value, err := parameterValue(p["parameterType"].(map[string]any), p["parameterValue"].(map[string]any))
		if err != nil {
			return fmt.Errorf("parameter %v: %w", p["name"], err)
		}
		q.Parameters[p["name"].(string)] = value
	}
	s.queries = append(s.queries, q)
	answer, err := s.run(r.Context(), q)
	if err == nil {
		s.jobs[id] = answer
	}
	return err
}

// parameterValue converts the value of a query parameter to the form in which SQLite
// stores it.
func parameterValue(typ, value map[string]any) (any, error) {
	name, _ := typ["type"].(string)
	if name != "ARRAY" {
		return stored(name, value["value"])
	}
	element, _ := typ["arrayType"].(map[string]any)["type"].(string)
	elements, _ := value["arrayValues"].([]any)
	values := make([]any, len(elements))
	for i, e := range elements {
		var err error
		if values[i], err = stored(element, e.(map[string]any)["value"]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (s *Server) getJob(_ http.ResponseWriter, r *http.Request, _ resource) (resource, error) {
	id := r.PathValue("job")
	if _, ok := s.jobs[id]; !ok {
		return nil, errNotFound
	}
	return jobOf(id, map[string]any{"query": map[string]any{"query": ""}}), nil
}

func (s *Server) getQueryResults(_ http.ResponseWriter, r *http.Request, _ resource) (resource, error) {
	id := r.PathValue("job")
	a, ok := s.jobs[id]
	if !ok {
		return nil, errNotFound
	}
	return a.json(id), nil
}
