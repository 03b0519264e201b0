package emulator

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
)

// QueryBigQuery returns the rows that a query finds, as another program reads them:
// by column, times in UTC. The host is that of the emulator's REST side; bare table
// names are those of the dataset.
func QueryBigQuery(ctx context.Context, restHost, project, dataset, sql string) ([]map[string]any, error) {
	rows, err := queryBigQuery(ctx, restHost, project, dataset, sql)
	if err != nil {
		return nil, fmt.Errorf("query dataset %s.%s: %w: %s", project, dataset, err, sql)
	}
	return rows, nil
}

func queryBigQuery(ctx context.Context, restHost, project, dataset, sql string) ([]map[string]any, error) {
	client, err := bigquery.NewClient(ctx, project,
		option.WithEndpoint("http://"+restHost+"/bigquery/v2/"), option.WithHTTPClient(http.DefaultClient))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	client.Location = "US" // without it the emulator finds no job again
	q := client.Query(sql)
	q.DefaultProjectID, q.DefaultDatasetID = project, dataset
	job, err := q.Run(ctx) // the emulator answers jobs.query, which Read uses, without rows
	if err != nil {
		return nil, err
	}
	found, err := job.Read(ctx)
	if err != nil {
		// Of a job that failed the emulator says here that it does not exist.
		if status, statusErr := job.Status(ctx); statusErr == nil && status.Err() != nil {
			err = status.Err()
		}
		return nil, err
	}
	var rows []map[string]any
	for {
		var values map[string]bigquery.Value
		if err := found.Next(&values); errors.Is(err, iterator.Done) {
			return rows, nil
		} else if err != nil {
			return nil, err
		}
		row := map[string]any{}
		for name, value := range values {
			row[name] = value
		}
		rows = append(rows, row)
	}
}
